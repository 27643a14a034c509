"""The file of an export of the activity log, which can be gone on with after an interruption."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ..errors import BadInput

FORMATS: Final = ("jsonl", "csv")
COLUMNS: Final = (
    "id",
    "created_at",
    "status",
    "action",
    "provider_id",
    "scope",
    "connection_id",
    "object_type",
    "object_id",
    "actor",
    "actor_type",
    "channel",
    "installation_id",
    "subscription_id",
    "sync_job_id",
    "metadata",
)
"""Fields of an entry in a file, in their order; in CSV the metadata is JSON."""


class ActivityFile:
    """Pages of entries, each on the disk before ``FILE.state`` names the place behind it."""

    def __init__(self, path: Path, form: str, asked: Mapping[str, Any], until: datetime) -> None:
        self.until = until
        self.after: str | None = None
        self.entries = 0
        self._form = form
        self._asked = dict(asked)
        self._size = 0
        self._path = path
        self._state = path.with_name(f"{path.name}.state")

    @classmethod
    @contextmanager
    def begin(
        cls, path: Path, form: str, asked: Mapping[str, Any], *, until: datetime, resume: bool
    ) -> Iterator[ActivityFile]:
        """The file, open; new, or as far as its state says.

        Raises:
            BadInput: it exists already, there is nothing to go on with, or that was asked for otherwise.
        """
        made = cls(path, form, asked, until)
        if resume:
            made._read_state()
        elif path.exists() or made._state.exists():
            hint = "Go on with it: --resume." if made._state.exists() else "Name another one, or remove it."
            raise BadInput(f"There is a file {path} already.", hint=hint, field="file")
        else:
            path.touch(mode=0o600, exist_ok=False)
            made._write_state()
        with path.open("r+b") as opened:
            opened.truncate(made._size)  # what was written behind the last place that is known may be a part of a page
            opened.seek(made._size)
            made._file = opened
            yield made

    _file: io.BufferedRandom

    def add(self, entries: Sequence[Mapping[str, Any]], after: str | None) -> None:
        """Write a page; ``after`` is the place behind it, None at the end, which removes the state."""
        text = self._csv(entries) if self._form == "csv" else "".join(f"{_json(entry)}\n" for entry in entries)
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._size, self.after, self.entries = self._file.tell(), after, self.entries + len(entries)
        if after is None:
            self._state.unlink()
        else:
            self._write_state()

    def _csv(self, entries: Sequence[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        lines = csv.writer(text)
        if self._size == 0:
            lines.writerow(COLUMNS)
        for entry in entries:
            lines.writerow([_json(value) if name == "metadata" else _cell(value) for name, value in entry.items()])
        return text.getvalue()

    def _write_state(self) -> None:
        known = {
            "format": self._form,
            "asked": self._asked,
            "until": self.until.isoformat(),
            "after": self.after,
            "size": self._size,
            "entries": self.entries,
        }
        new = self._state.with_name(f"{self._state.name}.new")
        new.write_text(json.dumps(known), encoding="utf-8")
        new.replace(self._state)

    def _read_state(self) -> None:
        try:
            known = json.loads(self._state.read_text(encoding="utf-8"))
            self.until = datetime.fromisoformat(known["until"])
            self.after, self._size, self.entries = known["after"], int(known["size"]), int(known["entries"])
            asked = (known["format"], known["asked"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"There is no export to {self._path} to go on with.", hint="Leave out --resume.", field="file"
            ) from error
        if asked != (self._form, self._asked):
            raise BadInput(
                f"The export to {self._path} began with other options.", hint="Give the same ones.", field="file"
            )
        if not self._path.exists() or self._path.stat().st_size < self._size:
            raise BadInput(f"The file {self._path} is not the one that the export began.", field="file")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is marked as text (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
