"""Time, randomness and sleeping, injected so that every rule can be tested without waiting."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What the runtime asks for time and randomness."""

    def now(self) -> datetime:
        """The time as an aware UTC datetime."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        ...

    def random(self, size: int) -> bytes:
        """``size`` bytes fit for keys and states."""
        ...


class SystemClock:
    """The machine's clock and random source."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)  # asked for every use of a key: no frame of our own

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def random(self, size: int) -> bytes:
        return os.urandom(size)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def uuid7(clock: Clock) -> str:
    """A UUID version 7 (RFC 9562 §5.7): ids that sort by the time of their making, to the microsecond (§6.2)."""
    return _version7(clock.now(), clock.random(10))


def uuid_of(at: datetime, seed: str) -> str:
    """The UUID version 7 of that time whose other bits follow from ``seed``: made again, it is the same."""
    return _version7(at, hashlib.sha256(seed.encode()).digest()[:10])


def uuid_after(id: str, steps: int) -> str:
    """The id that many steps behind ``id``: what comes of something is made again alike, and sorts right behind it."""
    return _text(int(id.replace("-", ""), 16) + steps)


def _version7(at: datetime, bits: bytes) -> str:
    milliseconds, microseconds = divmod((at - _EPOCH) // _MICROSECOND, 1000)
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(bits, "big")
    value = value & ~(0xFFFC << 64) | 0x7 << 76 | microseconds << 66
    value = value & ~(0x3 << 62) | 0x2 << 62
    return _text(value)


def _text(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
