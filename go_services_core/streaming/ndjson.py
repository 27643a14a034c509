"""Lines of JSON (https://github.com/ndjson/ndjson-spec, https://jsonlines.org)."""

from __future__ import annotations

import json
from typing import Any

from ..errors import ResponseInvalid
from .lines import Lines


class NdjsonReader:
    """Gives what each line holds; empty lines are passed over."""

    def __init__(self, limit: int) -> None:
        self._lines = Lines(limit)

    def feed(self, piece: bytes) -> list[Any]:
        """The values of the lines that are complete now.

        Raises:
            ResponseInvalid: a line is not JSON; the message has its number, not its content.
            BodyTooLarge: a line is over the limit.
        """
        before = self._lines.count
        lines = self._lines.feed(piece)
        return [self._value(line, number) for number, line in enumerate(lines, before + 1) if line.strip()]

    def end(self) -> list[Any]:
        """The value of the last line, where no line end follows it; raises as ``feed``."""
        rest = self._lines.end()
        return [self._value(rest, self._lines.count)] if rest.strip() else []

    def _value(self, line: bytes, number: int) -> Any:
        try:
            return json.loads(line.decode())
        except (ValueError, RecursionError):
            raise ResponseInvalid(f"Line {number} of the stream is not JSON ({len(line)} bytes).") from None
