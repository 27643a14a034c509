"""Worker processes of their own, whose handler writes a row together with its settlement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .refresh_workers import HEAD, declared, started

if TYPE_CHECKING:
    import asyncio

WORKER = (
    HEAD
    + """
from go_services_store_sql.statement import Statement

mode = sys.argv[2]
EFFECT = Statement("INSERT INTO effects (id, pid, attempt) VALUES (:id, :pid, 1)")

async def handler(event, context):
    if mode == "hold" or (mode == "die" and event.payload["delivery_id"].endswith("-3")):
        say("holding")
        await asyncio.sleep(3600)
    if mode == "slow":
        say("running")
        await asyncio.sleep(0.3)
    def work():
        yield from EFFECT(id=event.payload["delivery_id"], pid=os.getpid())
    return work

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with opened() as runtime:
        await runtime.on("webhook.*", handler, name="effects")
        worked = await runtime.work(kinds=["inbox", "outbox"], stop=stop, ready=lambda: say("ready"))
    say(json.dumps([worked.done, worked.failed, worked.cut_off]))

asyncio.run(main())
"""
)


def settings(app: Any, **changes: Any) -> dict[str, Any]:
    """Short leases and short waits, as a test can bear them."""
    given = declared(app) | {"worker.lease": 3.0, "worker.poll": 0.1, "worker.grace": 10.0}
    return given | {name.replace("__", "."): value for name, value in changes.items()}


@asynccontextmanager
async def working(app: Any, mode: str = "work", **changes: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker process that is not ready yet; ``mode`` is what its handler does."""
    async with started(WORKER, settings(app, **changes), mode) as process:
        yield process
