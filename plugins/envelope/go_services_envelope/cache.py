"""A bounded cache that makes one call for concurrent misses."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from go_services_core.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class KeyCache(Generic[K, V]):
    """Least recently used goes first; nothing is given out after ``ttl`` seconds. It belongs to one event loop."""

    __slots__ = ("_clock", "_entries", "_flights", "_size", "_ttl")

    def __init__(self, clock: Clock, *, size: int, ttl: float) -> None:
        self._clock = clock
        self._size = size
        self._ttl = ttl
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._flights: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, or None when it is not here or too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._clock.monotonic() >= entry[0]:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: K, value: V, *, since: float) -> None:
        """Keep a value that exists ``since`` that monotonic time, and drop what is over the bounds."""
        self._entries[key] = (since + self._ttl, value)
        self._entries.move_to_end(key)
        now = self._clock.monotonic()
        while self._entries:
            oldest, (deadline, _) = next(iter(self._entries.items()))
            if deadline > now and len(self._entries) <= self._size:
                break
            del self._entries[oldest]

    async def load(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Make the value and keep it, or wait for the call that is making it.

        A caller that is cancelled does not cancel the call for the others; an error reaches all of them and is not
        kept.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._make(key, make))
            flight.add_done_callback(lambda done: self._landed(key, done))
        await asyncio.wait((flight,))
        return flight.result()

    async def _make(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        since = self._clock.monotonic()
        value = await make()
        self.put(key, value, since=since)
        return value

    def _landed(self, key: K, flight: asyncio.Task[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # every waiter may be gone, and asyncio would report that nobody looked
