"""Where what waits begins in an index, as one process knows it."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime
from typing import Final, Generic, TypeVar

from attrs import define, field

T = TypeVar("T", str, datetime)
WHOLE: Final = 1.0
"""Seconds after which a claim begins at the very first entry again."""


@define
class Front(Generic[T]):
    """Lets the claims of a long backlog begin where the last one ended.

    What was taken stays in PostgreSQL's index until the next VACUUM, and each claim that began at the first entry would
    walk over all of it. Something may still come behind the front: an event whose id was made before one that committed
    earlier, a delivery that waited for another one of its key. So a claim begins at the first entry every ``WHOLE``
    seconds, and whenever the one before reached the end.

    Args:
        first: a value before every entry.
    """

    _first: T
    _at: T = field(init=False)
    _whole_at: float = field(init=False, default=float("-inf"))

    def __attrs_post_init__(self) -> None:
        self._at = self._first

    def begin(self) -> T:
        """The entry with which to begin."""
        now = time.monotonic()
        if self.is_first or now - self._whole_at >= WHOLE:
            self._at, self._whole_at = self._first, now
        return self._at

    @property
    def is_first(self) -> bool:
        """Whether the next claim begins at the first entry."""
        return self._at == self._first

    def took(self, entries: Collection[T], *, wanted: int) -> None:
        """Go on behind what was taken, unless it was the end."""
        self._at = max(entries) if entries and len(entries) == wanted else self._first
