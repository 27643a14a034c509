"""Where the events begin that still wait for their handlers, as one process knows it."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from attrs import define

WHOLE: Final = 1.0
"""Seconds after which a claim begins at the very first event again."""


@define
class Front:
    """Lets the claims of a long backlog begin where the last one ended.

    What was handed out stays in PostgreSQL's index until the next VACUUM, and each claim that began at the first event
    would walk over all of it. An event may still be committed behind the front, since ids are made before the commit:
    a claim begins at the first one every ``WHOLE`` seconds, and whenever the one before reached the end.
    """

    _after: str = ""
    _whole_at: float = float("-inf")

    def begin(self) -> str:
        """The id behind which to look; empty for the first event."""
        now = time.monotonic()
        if not self._after or now - self._whole_at >= WHOLE:
            self._after, self._whole_at = "", now
        return self._after

    def took(self, ids: Collection[str], *, wanted: int) -> None:
        """Go on behind what was taken, unless it was the end."""
        self._after = max(ids) if ids and len(ids) == wanted else ""
