"""The ``workers`` facet."""

from __future__ import annotations

import builtins
from functools import partial

from go_services_core.model import Page
from go_services_core.worker_status import Backlog, WorkerProcess

from .. import workers
from ..driver import Driver
from .limits import at_least_one


class SqlWorkers:
    """The ``workers`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def beat(self, worker: WorkerProcess, *, seconds: float, forget: float) -> None:
        await self._driver.run(partial(workers.beat, worker, seconds=seconds, forget=forget))

    async def leave(self, worker_id: str) -> bool:
        return await self._driver.run(partial(workers.leave, worker_id), alone=True)

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[WorkerProcess]:
        at_least_one(limit)
        return await self._driver.read(partial(workers.page, after=after, limit=limit))

    async def backlog(self, *, most: int) -> builtins.list[Backlog]:
        at_least_one(most)
        return await self._driver.read(partial(workers.backlog, most=most), scan=True)
