"""What observers are told of operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import failure_code
from ..model import Observation
from .call import Call
from .core import Core

T = TypeVar("T")


async def observed(core: Core, call: Call, run: Callable[[], Awaitable[T]]) -> T:
    """The result of ``run``, which executes ``call``."""
    if not core.observers:
        return await run()
    began = core.clock.monotonic()
    failed: BaseException | None = None
    try:
        return await run()
    except BaseException as error:
        failed = error
        raise
    finally:
        core.observe(
            Observation(
                name="operation",
                at=core.clock.now(),
                ok=failed is None,
                duration_ms=(core.clock.monotonic() - began) * 1000,
                provider_id=call.loaded.instance.id,
                connection_id=call.loaded.connection.id,
                error_code=failure_code(failed),
                detail={"operation": call.operation.id},
            )
        )


def retrying(core: Core, call: Call, error: Exception, delay: float) -> None:
    """An attempt of ``call`` ended with ``error``; the next begins in ``delay`` seconds."""
    if core.observers:
        core.observe(
            Observation(
                name="operation",
                at=core.clock.now(),
                phase="retry",
                ok=False,
                provider_id=call.loaded.instance.id,
                connection_id=call.loaded.connection.id,
                error_code=failure_code(error),
                detail={"operation": call.operation.id, "attempt": call.attempts, "delay": delay},
            )
        )
