"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation)."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ..errors import BodyTooLarge
from .lines import Lines

_BOM: Final = b"\xef\xbb\xbf"


@frozen
class SseEvent:
    """One event."""

    data: str
    """Its lines of data, joined with line feeds."""
    event: str = "message"
    id: str = ""
    """The last id that the stream gave, here or before."""
    retry: float | None = None
    """Seconds to wait before the stream is opened again, where the server has said so by now."""


class SseReader:
    """Gives each event at the empty line that ends it. One that the end of the stream cuts off is not given."""

    def __init__(self, limit: int) -> None:
        self.last_id = ""
        """Goes into ``Last-Event-ID`` when the stream is opened again."""
        self.retry: float | None = None
        """Seconds, as the server said last."""
        self._limit = limit
        self._data: list[str] = []
        self._size = 0
        self.begin()

    def begin(self) -> None:
        """The stream begins, or begins again: what was left of an event is forgotten."""
        self._lines = Lines(self._limit, cr=True)
        self._first = True
        self._id = self.last_id
        self._clear()

    def feed(self, piece: bytes) -> list[SseEvent]:
        """The events that are complete now.

        Raises:
            BodyTooLarge: a line or an event is over the limit.
        """
        events = []
        for raw in self._lines.feed(piece):
            line = raw.removeprefix(_BOM) if self._first else raw
            self._first = False
            if line:
                self._field(line.decode("utf-8", "replace"))
            else:
                self.last_id = self._id
                if self._data:
                    event = SseEvent("\n".join(self._data), self._event or "message", self.last_id, self.retry)
                    events.append(event)
                self._clear()
        return events

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value) + 1
            if self._size > self._limit:
                raise BodyTooLarge(f"An event of the stream is larger than {self._limit} bytes.")
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= 10:
            self.retry = int(value) / 1000

    def _clear(self) -> None:
        self._data = []
        self._event = ""
        self._size = 0
