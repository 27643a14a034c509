"""What the stores for SQLite and PostgreSQL have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from go_services_core.errors import StoreUnavailable
from go_services_core.model import Event

from . import meta, retention
from .announcing import Announcing
from .driver import Driver
from .facets import (
    SqlBudgets,
    SqlConnections,
    SqlEndpoints,
    SqlLeases,
    SqlLog,
    SqlOnce,
    SqlQueues,
    SqlResources,
    SqlSealed,
    SqlWorkers,
)


class SqlStore:
    """The part of a :class:`go_services_core.protocols.Store` that goes through its driver.

    Args:
        driver: runs the units of work.
        plugin: the id of the store's plugin, for errors.
    """

    _id: str | None = None
    """Set from ``open`` to ``aclose``."""

    def __init__(self, driver: Driver, *, plugin: str) -> None:
        self._driver = driver
        self._plugin = plugin
        self._announcing = announcing = Announcing(driver)
        self.connections = SqlConnections(announcing)
        self.queues = SqlQueues(announcing)
        self.once = SqlOnce(announcing)
        self.leases = SqlLeases(announcing)
        self.resources = SqlResources(announcing)
        self.budgets = SqlBudgets(announcing)
        self.log = SqlLog(announcing)
        self.sealed = SqlSealed(announcing)
        self.workers = SqlWorkers(announcing)
        self.endpoints = SqlEndpoints(announcing)

    @property
    def id(self) -> str:
        if self._id is None:
            raise StoreUnavailable("The store's id is known after open().", plugin=self._plugin)
        return self._id

    async def remember(self, name: str, value: bytes) -> bytes:
        return await self._driver.run(partial(meta.remember, name, value))

    async def exchange(self, name: str, *, before: bytes, after: bytes) -> bool:
        return await self._driver.run(partial(meta.exchange, name, before=before, after=after), alone=True)

    def listen(self, listener: Callable[[Sequence[Event]], None] | None) -> None:
        self._announcing.listener = listener

    async def prune(self, policy: Mapping[str, float], *, batch: int = 500, dry_run: bool = False) -> Mapping[str, int]:
        return await retention.prune(self._driver, policy, batch=batch, dry_run=dry_run)
