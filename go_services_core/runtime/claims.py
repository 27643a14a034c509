"""Working off what was claimed from a queue, while the leases of what still waits are extended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..errors import StoreError
from ..model import Claim
from .core import Core, logger


async def work_off(core: Core, claims: Sequence[Claim], handle: Callable[[Claim], Awaitable[bool]]) -> tuple[int, int]:
    """Handle one claim after another; gives how many were handled and how many failed."""
    held = {claim.id: claim for claim in claims}
    handled = failed = 0
    keeping = asyncio.create_task(_keep(core, held)) if held else None
    try:
        for claim in claims:
            done = claim.id in held and await handle(claim)
            held.pop(claim.id, None)
            handled, failed = handled + done, failed + (not done)
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    return handled, failed


async def _keep(core: Core, held: dict[str, Claim]) -> None:
    """Extend the leases of what is still to be handled, and let go of what is lost."""
    lease = core.worker.lease
    while True:
        await asyncio.sleep(lease / 3)  # in real time, by which the database ends leases
        try:
            for id in await core.store.queues.heartbeat(list(held.values()), lease=lease):
                held.pop(id, None)
        except StoreError as error:
            logger.warning("leases could not be extended: %s", error)
