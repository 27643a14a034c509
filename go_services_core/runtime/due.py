"""What is due: deliveries, events to their handlers, and the runtime's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import BadInput
from ..model import Drained
from . import delivery, inbox, jobs, refresh_ahead
from .core import Core

if TYPE_CHECKING:
    from .runtime import Runtime

_QUEUES: Final = ("inbox", "outbox")


async def run_due(core: Core, runtime: Runtime, kind: str, limit: int) -> tuple[int, int]:
    """Do up to ``limit`` due items of one kind; gives how many were done and how many failed.

    Raises:
        BadInput: there is no such kind.
    """
    if kind == "inbox":
        return await inbox.run_due(core, limit)
    if kind == "outbox":
        return await delivery.run_due(core, runtime, limit)
    if kind in jobs.JOBS:
        return await jobs.run_due(core, kind, limit)
    if kind == refresh_ahead.AHEAD:
        return await refresh_ahead.run(core, limit)
    kinds = ", ".join([*_QUEUES, *sorted(jobs.JOBS), refresh_ahead.AHEAD])
    raise BadInput(f"There is no kind of work {kind!r}.", hint=f"Kinds: {kinds}.", field="kind")


async def drain(core: Core, runtime: Runtime) -> Drained:
    """Do what is due until nothing is; see ``Runtime.drain``."""
    counts = dict.fromkeys([*_QUEUES, *jobs.JOBS], 0)
    failures = 0
    for kind in counts:
        while True:
            handled, failed = await run_due(core, runtime, kind, core.worker.batch)
            counts[kind] += handled
            failures += failed
            if handled + failed == 0:
                break
    # Once is all: what failed and is not held back by its state would be due again at once.
    renewals, refused = await refresh_ahead.run(core)
    return Drained(
        deliveries=counts["inbox"],
        events=counts["outbox"],
        jobs=sum(counts[kind] for kind in jobs.JOBS),
        renewals=renewals,
        failed=failures + refused,
    )
