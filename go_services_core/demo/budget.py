"""The step ``shared-budget``: two processes stay within one rate limit together.

``python -m go_services_core.demo.budget CONFIG CONNECTION`` is one of them: it says that it is ready, waits for a line,
makes :data:`CALLS` calls at once, and prints how many were made and, of those that were not sent, when it may go on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import BudgetExhausted, ServicesError

if TYPE_CHECKING:
    from .steps import Stage

LIMIT: Final = 10
"""Requests an hour; the configuration says so of the operation ``items.count``, and the sandbox refuses more."""
CALLS: Final = 8
"""Of each process: together more than the limit."""


async def shared_budget(stage: Stage, require: Callable[[bool, str], None]) -> str:
    """Two processes want more calls than there are; the sandbox must not have to refuse any."""
    from ..testing.sandbox.api import RateBudget

    sandbox, connection = stage.sandbox, stage.connected()
    limit, sandbox.rate_limit, sandbox.budget = sandbox.rate_limit, LIMIT, RateBudget()
    try:
        async with (
            _process(stage.files.config, connection.id) as one,
            _process(stage.files.config, connection.id) as two,
        ):
            before = sandbox.requests["items.list"]
            told = await asyncio.gather(_go(one), _go(two))
        sent = sandbox.requests["items.list"] - before
    finally:
        sandbox.rate_limit, sandbox.budget = limit, RateBudget()
    made, waits = [told[0]["made"], told[1]["made"]], told[0]["waits"] + told[1]["waits"]
    require(sent == LIMIT == sum(made), f"{sent} requests were sent and {sum(made)} answered instead of {LIMIT}")
    require(len(waits) == 2 * CALLS - LIMIT and min(waits) > 0, "a call that was not sent does not tell when to go on")
    return (
        f"{made[0]} + {made[1]} of {2 * CALLS} calls were made, {LIMIT} requests and no 429; the others were told to "
        f"wait {min(waits):.0f} s"
    )


@asynccontextmanager
async def _process(config: Path, connection_id: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "go_services_core.demo.budget", str(config), connection_id,
        stdin=pipe, stdout=pipe, stderr=pipe,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _go(process: asyncio.subprocess.Process) -> dict[str, Any]:
    out, err = await process.communicate(b"go\n")
    if process.returncode != 0:
        raise ServicesError(f"A process failed: {err.decode().strip().rpartition(chr(10))[2]}")
    told: dict[str, Any] = json.loads(out)
    return told


async def _call(config: str, connection_id: str) -> None:
    from ..runtime.runtime import Runtime

    async with Runtime.open(config) as runtime:

        async def call() -> float | None:
            try:
                await runtime.execute(connection_id, "items.count", deadline=20)
            except BudgetExhausted as error:
                return error.retry_after
            return None

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        waits = await asyncio.gather(*(call() for _ in range(CALLS)))
        print(json.dumps({"made": waits.count(None), "waits": [wait for wait in waits if wait is not None]}))


if __name__ == "__main__":
    asyncio.run(_call(*sys.argv[1:]))
