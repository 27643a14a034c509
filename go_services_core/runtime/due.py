"""What is due: deliveries, events to their handlers, the runtime's jobs, renewals, subscriptions and old history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from ..endpoints import SEND_JOB
from ..errors import BadInput, ConfigError
from ..model import Drained
from . import delivery, inbox, jobs, refresh_ahead, retention, subscription_keeper, webhook_sends
from .core import Core

if TYPE_CHECKING:
    from ..config.roots import WorkerRoot
    from .runtime import Runtime

Work: TypeAlias = "Callable[[Core, Runtime, int], Awaitable[tuple[int, int]]]"
"""Does up to so many due items of one kind; gives how many were done and how many failed."""


async def _inbox(core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    return await inbox.run_due(core, limit)


async def _jobs(kind: str, core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    return await jobs.run_due(core, kind, limit)


async def _sends(core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    return await webhook_sends.run(core, limit)


async def _ahead(core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    return await refresh_ahead.run(core, limit)


async def _subscriptions(core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    return await subscription_keeper.run(core, limit)


async def _retention(core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    return await retention.run(core)


_QUEUES: Final[Mapping[str, Work]] = {"inbox": _inbox, "outbox": delivery.run_due}
KINDS: Final[Mapping[str, Work]] = {
    **_QUEUES,
    **{kind: partial(_jobs, kind) for kind in sorted(jobs.JOBS)},
    SEND_JOB: _sends,
    refresh_ahead.AHEAD: _ahead,
    subscription_keeper.RENEW: _subscriptions,
    retention.RETENTION: _retention,
}
"""Everything that a worker does, by kind; each is a loop of its own."""
POLLS: Final[Mapping[str, float]] = {
    refresh_ahead.AHEAD: 15.0,
    subscription_keeper.RENEW: 15.0,
    retention.RETENTION: 60.0,
}
"""Seconds between two looks for kinds that are not due by the second, instead of ``[worker] poll``."""


def work_of(kind: str) -> Work:
    """What does one kind of work.

    Raises:
        BadInput: there is no such kind.
    """
    found = KINDS.get(kind)
    if found is None:
        raise BadInput(f"There is no kind of work {kind!r}.", hint=f"Kinds: {', '.join(KINDS)}.", field="kind")
    return found


def check_kinds(settings: WorkerRoot) -> None:
    """Refuse settings for work that does not exist.

    Raises:
        ConfigError: ``[worker.kinds]`` names a kind that there is not.
    """
    unknown = sorted(settings.kinds.keys() - KINDS.keys())
    if unknown:
        known = ", ".join(KINDS)
        raise ConfigError(
            problems=[f"worker.kinds.{kind}: there is no such kind; known are {known}." for kind in unknown]
        )


async def run_due(core: Core, runtime: Runtime, kind: str, limit: int) -> tuple[int, int]:
    """Do up to ``limit`` due items of one kind; gives how many were done and how many failed.

    Raises:
        BadInput: there is no such kind.
    """
    return await work_of(kind)(core, runtime, limit)


async def drain(core: Core, runtime: Runtime) -> Drained:
    """Do what is due until nothing is; see ``Runtime.drain``."""
    counts = dict.fromkeys([*_QUEUES, *jobs.JOBS, SEND_JOB], 0)
    failures = 0
    for kind in counts:
        while True:
            handled, failed = await run_due(core, runtime, kind, core.worker.batch)
            counts[kind] += handled
            failures += failed
            if handled + failed == 0 and not (kind == SEND_JOB and core.sends.held):
                break
    # Once is all: what failed and is not held back by its state would be due again at once.
    renewals, refused = await refresh_ahead.run(core)
    kept, lost = await subscription_keeper.run(core)
    return Drained(
        deliveries=counts["inbox"],
        events=counts["outbox"],
        jobs=sum(counts[kind] for kind in (*jobs.JOBS, SEND_JOB)),
        renewals=renewals + kept,
        failed=failures + refused + lost,
    )
