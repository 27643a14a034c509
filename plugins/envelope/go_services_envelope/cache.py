"""A bounded cache of data keys that makes one call for concurrent misses."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from .keys import KnownKey


class KeyCache:
    """Data keys by the head of their envelopes; the least recently used goes first. It belongs to one event loop.

    Who finds a key looks at its times; the cache only lets go of keys that are over.
    """

    __slots__ = ("_flights", "_keys", "_latest", "_size", "crowded", "find", "latest", "touch")

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._keys: OrderedDict[bytes, KnownKey] = OrderedDict()
        self._latest: dict[bytes, KnownKey] = {}
        self._flights: dict[Hashable, asyncio.Task[KnownKey]] = {}
        self.crowded = False
        """Whether it is more than half full. Below that no key has to go soon, and uses need not be noted."""
        self.find: Callable[[bytes], KnownKey | None] = self._keys.get
        """The key of a head."""
        self.latest: Callable[[bytes], KnownKey | None] = self._latest.get
        """The key of a wrap context that seals or, where none does, that came last."""
        self.touch: Callable[[bytes], None] = self._keys.move_to_end
        """Note a use of the key of a head that is here."""

    def put(self, key: KnownKey, *, now: float) -> None:
        """Keep a key, and drop what is over the bounds."""
        keys = self._keys
        if key.head in keys:
            self._drop(key.head)
        keys[key.head] = key
        latest = self._latest.get(key.context)
        if latest is None or key.left or not latest.left:
            self._latest[key.context] = key
        while keys:
            head, oldest = next(iter(keys.items()))
            if oldest.until > now and len(keys) <= self._size:
                break
            self._drop(head)
        self.crowded = len(keys) * 2 > self._size

    def _drop(self, head: bytes) -> None:
        key = self._keys.pop(head)
        if self._latest.get(key.context) is key:
            del self._latest[key.context]

    async def share(self, name: Hashable, make: Callable[[], Coroutine[Any, Any, KnownKey]]) -> KnownKey:
        """Make the key, or wait for the call that is making it. Keeping it is up to ``make``.

        A caller that is cancelled does not cancel the call for the others; an error reaches all of them.
        """
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(make())
            flight.add_done_callback(lambda done: self._landed(name, done))
        await asyncio.wait((flight,))
        return flight.result()

    def _landed(self, name: Hashable, flight: asyncio.Task[KnownKey]) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]
        if not flight.cancelled():
            flight.exception()  # every waiter may be gone, and asyncio would report that nobody looked
