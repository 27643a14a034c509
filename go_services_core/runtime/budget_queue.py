"""Whose turn it is: calls that wait for units of a budget, interactive ones first, scopes in turn. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from attrs import Factory, define, frozen

from ..model import Scope


@frozen(eq=False)
class Waiter:
    """A call that waits."""

    scope: Scope
    cost: float
    background: bool
    latest: float
    """When it waits no more, by the monotonic clock."""
    ready: asyncio.Future[None]


@define
class Queue:
    """Lanes of callers: one for each scope, those of background calls apart."""

    _interactive: dict[Scope, deque[Waiter]] = Factory(dict)
    _background: dict[Scope, deque[Waiter]] = Factory(dict)

    def __bool__(self) -> bool:
        return bool(self._interactive or self._background)

    def add(self, waiter: Waiter) -> bool:
        """To the end of its lane; True where that may change who is asked for next."""
        lanes = self._lanes(waiter)
        is_first = waiter.scope not in lanes
        lanes.setdefault(waiter.scope, deque()).append(waiter)
        return is_first

    def remove(self, waiter: Waiter) -> None:
        """Take it out, if it is still there."""
        lanes = self._lanes(waiter)
        lane = lanes.get(waiter.scope)
        if lane is not None and waiter in lane:
            lane.remove(waiter)
            if not lane:
                del lanes[waiter.scope]

    def next(self) -> list[Waiter]:
        """The first of each lane in turn; background lanes only where nobody else waits."""
        return [lane[0] for lane in (self._interactive or self._background).values()]

    def served(self, waiter: Waiter) -> None:
        """Take it out; its scope comes after all others."""
        lanes = self._lanes(waiter)
        lane = lanes.pop(waiter.scope)
        lane.remove(waiter)
        if lane:
            lanes[waiter.scope] = lane

    def __iter__(self) -> Iterator[Waiter]:
        for lanes in (self._interactive, self._background):
            for lane in list(lanes.values()):
                yield from list(lane)

    def _lanes(self, waiter: Waiter) -> dict[Scope, deque[Waiter]]:
        return self._background if waiter.background else self._interactive
