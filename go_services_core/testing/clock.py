"""A clock that moves only when told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta


class FrozenClock:
    """Time stands still until ``advance``; ``sleep`` advances instead of waiting; randomness comes from a seed."""

    def __init__(self, now: datetime | None = None, *, seed: int = 0) -> None:
        self._now = now or datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._random = random.Random(seed)  # noqa: S311  reproducible on purpose
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def random(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
