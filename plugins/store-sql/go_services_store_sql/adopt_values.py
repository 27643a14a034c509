"""How values of the Go system are read: times and JSON that SQLite keeps as text in several forms."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from .dialect import Dialect, time_text

_TIME: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?"
    r" ?(?P<zone>Z|[+-]\d\d:?\d\d)?(?: (?:[A-Z]{1,5}|[+-]\d{2,4}))?(?: m=\S+)?"
)
"""SQLite's CURRENT_TIMESTAMP, RFC 3339, and what Go's ``Time.String`` gives."""


def go_time(value: Any) -> str | None:
    """A time in this release's form; None for what is not a time. Without a zone it is UTC."""
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    fraction = (found["fraction"] or "").ljust(6, "0")[:6]
    zone = "+00:00" if found["zone"] in (None, "Z") else found["zone"]
    try:
        return time_text(datetime.fromisoformat(f"{found['day']} {found['time']}.{fraction}{zone}"))
    except (ValueError, OverflowError):
        return None


def go_json(value: Any, default: str) -> str | None:
    """JSON of the same kind as ``default``, unchanged; ``default`` for null; None for what is neither."""
    try:
        read = json.loads(value)
    except (TypeError, ValueError):
        return None
    if read is None:
        return default
    if type(read) is not type(json.loads(default)):
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def go_digest(value: Any) -> bytes:
    """The SHA-256 of a body."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value or b"").digest()


FUNCTIONS: Final[Mapping[str, tuple[int, Callable[..., Any]]]] = {
    "go_time": (1, go_time),
    "go_json": (2, go_json),
    "go_digest": (1, go_digest),
}
"""What a connection to SQLite needs while it adopts: name → number of arguments, function."""


class Reading(Protocol):
    """How one dialect reads the Go system's columns: SQL for the value, and SQL that is true for a bad one."""

    def time(self, column: str) -> str: ...

    def bad_time(self, column: str) -> str: ...

    def json(self, column: str, default: str) -> str: ...

    def bad_json(self, column: str, default: str) -> str: ...

    def digest(self, column: str) -> str: ...

    def body(self, column: str) -> str: ...

    def member(self, column: str, name: str) -> str: ...

    def with_member(self, column: str, name: str, value: str) -> str: ...


class _Sqlite:
    def time(self, column: str) -> str:
        return f"go_time({column})"

    def bad_time(self, column: str) -> str:
        return f"({column} IS NOT NULL AND go_time({column}) IS NULL)"

    def json(self, column: str, default: str) -> str:
        return f"go_json({column}, '{default}')"

    def bad_json(self, column: str, default: str) -> str:
        return f"(go_json({column}, '{default}') IS NULL)"

    def digest(self, column: str) -> str:
        return f"go_digest({column})"

    def body(self, column: str) -> str:
        return f"CAST(coalesce({column}, x'') AS BLOB)"

    def member(self, column: str, name: str) -> str:
        return f"coalesce(json_extract({column}, '$.{name}'), '')"

    def with_member(self, column: str, name: str, value: str) -> str:
        return f"json_set(go_json({column}, '{{}}'), '$.{name}', {value})"


class _Postgres:
    def time(self, column: str) -> str:
        return column

    def bad_time(self, column: str) -> str:
        return f"(isfinite({column}) IS FALSE)"

    def json(self, column: str, default: str) -> str:
        return f"CASE jsonb_typeof({column}) WHEN 'null' THEN '{default}'::jsonb ELSE {column} END"

    def bad_json(self, column: str, default: str) -> str:
        kind = "array" if default == "[]" else "object"
        return f"(jsonb_typeof({column}) NOT IN ('null', '{kind}'))"

    def digest(self, column: str) -> str:
        return f"sha256(coalesce({column}, ''::bytea))"

    def body(self, column: str) -> str:
        return f"coalesce({column}, ''::bytea)"

    def member(self, column: str, name: str) -> str:
        return f"coalesce({column} ->> '{name}', '')"

    def with_member(self, column: str, name: str, value: str) -> str:
        return f"({self.json(column, '{}')} || jsonb_build_object('{name}', {value}))"


_READINGS: Final[Mapping[str, Reading]] = {"sqlite": _Sqlite(), "postgres": _Postgres()}


def reading(dialect: Dialect) -> Reading:
    """The dialect's way."""
    return _READINGS[dialect.name]
