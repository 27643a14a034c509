"""Removing history by ``[retention]`` and ``[activity] row_cap``: the work of the kind ``retention``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..errors import FacetMissing, LeaseLost, StoreError
from . import activity
from .core import Core, logger
from .spans import Span

if TYPE_CHECKING:
    from ..refreshes import Lease

RETENTION: Final = "retention"
"""The kind of work, and the resource whose lease says that one process does it."""


async def run(core: Core) -> tuple[int, int]:
    """Remove what the policy does not keep, unless that was done a short time ago; gives the number of rows, and 0.

    The lease is held until the next run is due, so that all processes together go through the tables once.

    Raises:
        FacetMissing: the store has no leases.
    """
    policy = core.retention.policy()
    if not policy and core.activity.row_cap is None:
        return 0, 0
    leases = getattr(core.store, "leases", None)
    if leases is None:
        raise FacetMissing("The store has no facet leases, which retention needs.", field="retention")
    lease = await leases.acquire(RETENTION, owner=core.owner, seconds=core.worker.lease)
    if lease is None:
        return 0, 0
    keeping = asyncio.create_task(_keep(core, lease))
    finished = False
    removed: dict[str, int] = {}
    try:
        with Span(core, RETENTION) as span:
            span.detail = removed
            for table, seconds in policy.items():
                if core.stopping:
                    break
                counts = await core.store.prune({table: seconds}, batch=core.retention.batch)
                removed |= {name: count for name, count in counts.items() if count}
            else:
                if trimmed := await activity.trim(core):
                    removed[activity.TABLE] = removed.get(activity.TABLE, 0) + trimmed
                finished = not core.stopping
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await _let_go(core, lease, finished=finished)
    return sum(removed.values()), 0


async def _keep(core: Core, lease: Lease) -> None:
    while True:
        await asyncio.sleep(core.worker.lease / 3)  # in real time, by which the database ends leases
        try:
            await core.store.leases.renew(lease, seconds=core.worker.lease)
        except (LeaseLost, StoreError) as error:
            logger.warning("the lease of the retention run could not be extended: %s", error)


async def _let_go(core: Core, lease: Lease, *, finished: bool) -> None:
    """Keep others from another run until it is due; one that did not get through leaves it to them."""
    try:
        if finished:
            await core.store.leases.renew(lease, seconds=core.retention.every)
        else:
            await core.store.leases.release(lease)
    except (LeaseLost, StoreError) as error:
        logger.warning("the lease of the retention run could not be set: %s", error)
