"""Telling a listener of the events that units of work have committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from go_services_core.model import Event
from go_services_core.protocols import Work

from .dialect import Dialect
from .driver import Driver, Joint
from .statement import Steps

T = TypeVar("T")


class Announcing:
    """A driver that tells of committed events. Without a listener it does nothing but hand over."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.listener: Callable[[Sequence[Event]], None] | None = None
        self._units: set[asyncio.Task[object]] = set()

    @property
    def dialect(self) -> Dialect:
        """See :class:`go_services_store_sql.driver.Driver`."""
        return self._driver.dialect

    async def run(self, work: Work[T], *, destroys: bool = False, alone: bool = False) -> T:
        """See :class:`go_services_store_sql.driver.Driver`."""
        if self.listener is None or isinstance(work, Joint):
            return await self._driver.run(work, destroys=destroys, alone=alone)
        written: list[Sequence[Event]] = []
        # A task of its own: a caller that is cancelled does not undo what was submitted, which is told of as well.
        unit = asyncio.ensure_future(self._driver.run(partial(_noting, work, written), destroys=destroys, alone=alone))
        self._units.add(unit)
        unit.add_done_callback(partial(self._tell, written))
        return await asyncio.shield(unit)

    async def read(self, work: Work[T], *, scan: bool = False) -> T:
        """See :class:`go_services_store_sql.driver.Driver`."""
        return await self._driver.read(work, scan=scan)

    def _tell(self, written: Sequence[Sequence[Event]], unit: asyncio.Task[object]) -> None:
        self._units.discard(unit)
        if unit.cancelled() or unit.exception() is not None:
            return
        events = tuple(event for several in written for event in several)
        if events and self.listener is not None:
            self.listener(events)


def _noting(work: Work[T], written: list[Sequence[Event]]) -> Steps[T]:
    """The same unit, while the events that it writes are noted. One that runs again begins anew."""
    written.clear()
    unit = work()
    try:
        call = next(unit)
        while True:
            written.append(call.events)
            call = unit.send((yield call))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        unit.close()
