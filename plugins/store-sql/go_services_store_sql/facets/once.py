"""The ``once`` and ``leases`` facets."""

from __future__ import annotations

from typing import Literal

from go_services_core.model import Lease, Sealed
from go_services_core.resources import Begun, Dispatch, LedgerKind

from .. import dispatches, idempotency, leases, once
from ..driver import Driver


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
        self, kind: LedgerKind, key: str, *, owner: str, fence: int, ok: bool, result: Sealed | None = None
    ) -> None:
        await self._driver.run(
            lambda: idempotency.finish(kind, key, owner=owner, fence=fence, ok=ok, result=result), alone=True
        )

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
