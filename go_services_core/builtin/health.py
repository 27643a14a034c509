"""The built-in health checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..counted import counted
from ..errors import ConfigError, FacetMissing
from ..model import Health

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime


async def store(runtime: Runtime) -> Health:
    """The database answers, its schema is this release's, and it is not damaged."""
    status = await runtime.store_status()
    if status.pending:
        names = ", ".join(f"{step.number} {step.name}" for step in status.pending)
        return Health(ok=False, detail=f"pending migrations: {names}", remedy="Run `go-services store migrate`.")
    if status.problems:
        return Health(ok=False, detail="; ".join(status.problems), remedy="Look at `go-services store status`.")
    return Health(ok=True, detail=f"{status.server}, schema {status.schema_version}")


async def secrets(runtime: Runtime) -> Health:
    """The secret backend's primary key wraps and unwraps, no key needs attention, and every credential opens."""
    status = await runtime.key_status(count=False)
    if status.primary is None or status.problem:
        return Health(ok=False, detail=status.problem, remedy="Look at `go-services secrets check`.")
    if status.warnings:
        return Health(ok=False, detail=" ".join(status.warnings), remedy="Look at `go-services secrets status`.")
    key = status.primary
    return Health(ok=True, detail=f"{key.backend}, key {key.key_id} version {key.key_version}")


async def worker(runtime: Runtime) -> Health:
    """Work that is due is done in time."""
    try:
        status = await runtime.worker_status()
    except FacetMissing as error:
        return Health(ok=True, detail=f"not known: {error.message}")
    alive = len(status.alive)
    if status.late:
        waits = ", ".join(f"{queue.queue} {queue.due} for {queue.lag:.0f} s" for queue in status.late)
        if not alive:
            return Health(ok=False, detail=f"nobody works; due: {waits}", remedy="Start `go-services worker run`.")
        remedy = "Look at `go-services worker status`; start more workers, or see docs/runbooks/outbox-lag.md."
        return Health(ok=False, detail=f"{alive} alive, but late: {waits}", remedy=remedy)
    dead = sum(queue.dead for queue in status.backlog)
    return Health(
        ok=True, detail=f"{alive} alive, nothing late" + (f"; {counted(dead, 'item')} given up" if dead else "")
    )


async def settings(runtime: Runtime) -> Health:
    """Every secret that the providers' settings refer to can be read."""
    try:
        count = await runtime.check_settings()
    except ConfigError as error:
        remedy = "Repair the references, or what they lead to."
        return Health(ok=False, detail="; ".join(error.problems), remedy=remedy)
    if not count:
        return Health(ok=True, detail="no references")
    lead = "it leads" if count == 1 else "all of them lead"
    return Health(ok=True, detail=f"{counted(count, 'reference')} to secrets, {lead} to one")
