"""Processes of their own that send messages and notifications, and that kill themselves where they are told to."""

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
from urllib.request import Request, urlopen
from go_services_core.notifications import Recipient

point, url = sys.argv[2:4]

def arm(core):
    queues, settle = core.store.queues, core.store.queues.settle

    def is_meant(claim, rest):
        return bool(rest.get("jobs")) if "fan-out" in point else claim.queue == "jobs"

    async def settling(claim, outcome, **rest):
        if is_meant(claim, rest) and point in ("before-fan-out", "after-post"):
            die()
        result = await settle(claim, outcome, **rest)
        if is_meant(claim, rest) and point in ("after-fan-out", "after-settle"):
            die()
        return result

    if point in ("before-fan-out", "after-fan-out", "after-post", "after-settle"):
        core.store.queues = Beside(queues, settle=settling)
    elif point == "before-post":
        core.transport.stream = lambda *args, **rest: die()
    elif point == "before-record":
        once = core.store.once
        core.store.once = Beside(once, finish_dispatch=killing(once.finish_dispatch, "before"))
    elif point == "before-send":
        once = core.store.once
        core.store.once = Beside(once, begin_dispatch=killing(once.begin_dispatch, "after"))
    else:
        assert point in ("none", "loop"), point

async def recipients(code, event, context):
    return [Recipient("user", "u1"), Recipient("user", "u2")]

async def send(notification, context):
    def post():
        with urlopen(Request(url, method="POST", headers={"webhook-id": notification.key})):
            pass
    await asyncio.to_thread(post)

async def main():
    async with opened() as runtime:
        await runtime.notify_on("connection.told", name="told", definition="d", recipients=recipients, sender=send)
        arm(runtime._core)
        say("ready")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        while True:
            await runtime.drain()
            if point != "loop":
                break
            await asyncio.sleep(0.02)
        say("done")

asyncio.run(main())
"""
)


@asynccontextmanager
async def worker(app: Any, host: str, url: str, point: str = "none") -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that drains once a line is written to it; ``loop`` drains until it is killed."""
    settings = declared(app)
    settings["egress.allow.endpoint"] = [host]
    settings["worker.lease"] = 1.0
    settings["worker.batch"] = 8
    settings["endpoints.delays"] = [0.1] * 20
    async with started(WORKER, settings, point, url) as process:
        yield process
