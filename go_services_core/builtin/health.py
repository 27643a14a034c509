"""The built-in health checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """The secret backend's primary key wraps and unwraps."""
    key = await runtime.check_key()
    return Health(ok=True, detail=f"{key.backend}, key {key.key_id} version {key.key_version}")
