"""Bytes to lines."""

from __future__ import annotations

import re
from typing import Final

from ..errors import BodyTooLarge, ResponseInvalid

_ANY_END: Final = re.compile(rb"\r\n|\n|\r")


class Lines:
    """Splits what it is fed; a line ends with LF, which may have CR before it, or with a CR alone where ``cr``.

    A line over ``limit`` bytes is refused before it is complete.
    """

    def __init__(self, limit: int, *, cr: bool = False) -> None:
        self._limit = limit
        self._cr = cr
        self._held: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self.count = 0
        """Lines so far."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends.

        Raises:
            BodyTooLarge: a line is over the limit.
        """
        if not piece:
            return []
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        if self._cr:
            self._after_cr = piece.endswith(b"\r")
            parts = _ANY_END.split(piece)
        else:
            parts = piece.split(b"\n")
        lines = []
        for part in parts[:-1]:
            line = self._completed(part)
            lines.append(line if self._cr else line.removesuffix(b"\r"))
        self._hold(parts[-1])
        return lines

    def end(self) -> bytes:
        """What came after the last line end."""
        return self._completed(b"").removesuffix(b"\r") if self._held else b""

    def _completed(self, part: bytes) -> bytes:
        self._hold(part)
        line = b"".join(self._held)
        self._held.clear()
        self._size = 0
        self.count += 1
        return line

    def _hold(self, part: bytes) -> None:
        if part:
            self._held.append(part)
            self._size += len(part)
            if self._size > self._limit:
                raise BodyTooLarge(f"Line {self.count + 1} of the stream is larger than {self._limit} bytes.")


class TextLines:
    """The lines of a stream of UTF-8 text."""

    def __init__(self, limit: int) -> None:
        self._lines = Lines(limit)

    def feed(self, piece: bytes) -> list[str]:
        """The lines that are complete now; raises BodyTooLarge, or ResponseInvalid where one is not UTF-8."""
        return [self._text(line) for line in self._lines.feed(piece)]

    def end(self) -> list[str]:
        """The last line, where no line end follows it."""
        rest = self._lines.end()
        return [self._text(rest)] if rest else []

    def _text(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise ResponseInvalid(f"A line of the stream is not UTF-8 ({len(line)} bytes).") from None
