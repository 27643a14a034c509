"""A bounded cache of data keys that makes one call for concurrent misses."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

from go_services_core.clock import Clock
from go_services_core.model import KeyRef

from .keys import DataKeyCipher

N = TypeVar("N", bound=Hashable)
_NEVER: Final = float("-inf")


class KnownKey(Generic[N]):
    """A data key in memory."""

    __slots__ = ("__weakref__", "cipher", "head", "left", "name", "ref", "until")

    def __init__(self, name: N, ref: KeyRef, head: bytes, cipher: DataKeyCipher, *, until: float, left: int) -> None:
        self.name = name
        self.ref = ref
        self.head = head
        self.cipher = cipher
        self.until = until
        """Monotonic time from which on it is used no more."""
        self.left = left
        """Encryptions that it may still do; none for a key that was unwrapped."""


class KeyCache(Generic[N]):
    """Least recently used goes first; nothing is given out when its time is over. It belongs to one event loop.

    A key that leaves the cache ends, so that who still has it sees that by its ``until``.
    """

    __slots__ = ("_entries", "_flights", "_now", "_size", "touch")

    def __init__(self, clock: Clock, *, size: int) -> None:
        self._now = clock.monotonic
        self._size = size
        self._entries: OrderedDict[N, KnownKey[N]] = OrderedDict()
        self._flights: dict[N, asyncio.Task[KnownKey[N]]] = {}
        self.touch: Callable[[N], None] = self._entries.move_to_end
        """Note a use of a key that is here."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: N) -> KnownKey[N] | None:
        """The key, or None when it is not here or its time is over."""
        key = self._entries.get(name)
        if key is None:
            return None
        if self._now() >= key.until:
            self._drop(key)
            return None
        self.touch(name)
        return key

    def put(self, key: KnownKey[N]) -> None:
        """Keep a key, and drop the one of the same name and what is over the bounds."""
        before = self._entries.get(key.name)
        if before is not None:
            self._drop(before)
        self._entries[key.name] = key
        now = self._now()
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if oldest.until > now and len(self._entries) <= self._size:
                break
            self._drop(oldest)

    def _drop(self, key: KnownKey[N]) -> None:
        del self._entries[key.name]
        key.until = _NEVER

    async def share(self, name: N, make: Callable[[], Coroutine[Any, Any, KnownKey[N]]]) -> KnownKey[N]:
        """Make the key, or wait for the call that is making it. Keeping it is up to ``make``.

        A caller that is cancelled does not cancel the call for the others; an error reaches all of them.
        """
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(make())
            flight.add_done_callback(lambda done: self._landed(name, done))
        await asyncio.wait((flight,))
        return flight.result()

    def _landed(self, name: N, flight: asyncio.Task[KnownKey[N]]) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]
        if not flight.cancelled():
            flight.exception()  # every waiter may be gone, and asyncio would report that nobody looked
