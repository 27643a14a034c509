"""The ``once`` and ``leases`` facets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from go_services_core.errors import BadInput
from go_services_core.model import Event, NewJob, Page, Sealed
from go_services_core.protocols import Work
from go_services_core.refreshes import Lease
from go_services_core.resources import Begun, Dispatch, DispatchEntry, DispatchStatus, LedgerKind

from .. import dispatches, idempotency, leases, once
from .. import jobs as queued
from ..driver import Driver
from ..events import enqueue
from ..statement import Steps
from .limits import at_least_one


class SqlOnce:
    """The ``once`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def claim(self, key: str, *, ttl: float) -> bool:
        return await self._driver.run(lambda: once.claim(key, seconds=ttl))

    async def begin(self, kind: LedgerKind, key: str, *, digest: bytes, owner: str, seconds: float) -> Begun:
        return await self._driver.run(
            lambda: idempotency.begin(kind, key, digest=digest, owner=owner, seconds=seconds), alone=True
        )

    async def finish(
        self,
        kind: LedgerKind,
        key: str,
        *,
        owner: str,
        fence: int,
        ok: bool,
        result: Sealed | None = None,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
        work: Work[Any] | None = None,
    ) -> None:
        if not ok and (events or jobs or work is not None):
            raise BadInput("Only what ended well commits events, jobs and work.", field="ok")

        def unit() -> Steps[None]:
            yield from idempotency.finish(kind, key, owner=owner, fence=fence, ok=ok, result=result)
            for job in jobs:
                yield from queued.enqueue(job)
            for event in events:
                yield from enqueue(event)
            if work is not None:
                yield from work()

        await self._driver.run(unit, alone=not (events or jobs or work))

    async def extend(self, kind: LedgerKind, key: str, *, owner: str, fence: int, seconds: float) -> None:
        await self._driver.run(
            lambda: idempotency.extend(kind, key, owner=owner, fence=fence, seconds=seconds), alone=True
        )

    async def begin_dispatch(self, dispatch: Dispatch, *, owner: str, seconds: float) -> Begun:
        return await self._driver.run(lambda: dispatches.begin(dispatch, owner=owner, seconds=seconds), alone=True)

    async def finish_dispatch(
        self, key: str, *, owner: str, fence: int, status: Literal["sent", "failed"], error: str = ""
    ) -> None:
        await self._driver.run(
            lambda: dispatches.finish(key, owner=owner, fence=fence, status=status, error=error), alone=True
        )

    async def dispatches(
        self,
        *,
        projector: str | None = None,
        event_id: str | None = None,
        status: DispatchStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[DispatchEntry]:
        at_least_one(limit)
        filters = {"projector": projector, "event_id": event_id, "status": status}
        return await self._driver.read(lambda: dispatches.page(filters, after=after, limit=limit))


class SqlLeases:
    """The ``leases`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def acquire(self, resource: str, *, owner: str, seconds: float) -> Lease | None:
        return await self._driver.run(lambda: leases.take(resource, owner=owner, seconds=seconds), alone=True)

    async def renew(self, lease: Lease, *, seconds: float) -> None:
        await self._driver.run(lambda: leases.renew(lease, seconds=seconds), alone=True)

    async def release(self, lease: Lease) -> bool:
        held = {"resource": lease.resource, "owner": lease.owner, "fence": lease.fence}
        return await self._driver.run(lambda: leases.RELEASE.first(**held), alone=True) is not None
