"""Processes of their own that make a keyed call, and that kill themselves where they are told to."""

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
connection_id, key, name, point = sys.argv[2:6]

def arm(core):
    place, _, delay = point.partition(" ")
    once = core.store.once
    if place == "before-begin":
        core.store.once = Beside(once, begin=killing(once.begin, "before"))
    elif place == "after-begin":
        core.store.once = Beside(once, begin=killing(once.begin, "after"))
    elif place == "after-answer":
        core.transport = Beside(core.transport, send=killing(core.transport.send, "after"))
    elif place == "in-commit":
        core.store.once = Beside(once, finish=killing(once.finish, "during", float(delay)))
    elif place == "after-commit":
        core.store.once = Beside(once, finish=killing(once.finish, "after"))
    else:
        assert place in ("after-request", "none"), place  # whoever watches the provider kills

async def main():
    async with opened() as runtime:
        arm(runtime._core)
        say("ready")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        result = await runtime.execute(connection_id, "items.create", {"name": name}, idempotency_key=key)
        say(json.dumps([result.status, result.replayed, result.data["id"]]))

asyncio.run(main())
"""
)


@asynccontextmanager
async def worker(
    app: Any, connection_id: str, key: str, name: str, point: str = "none", *, honours: bool = True
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that makes the call once a line is written to it; ``honours``: whether the provider knows keys."""
    settings = declared(app)
    create = {"id": "items.create", "method": "POST", "path": "/items", "params": [{"name": "name", "where": "body"}]}
    if honours:
        create["idempotency_header"] = "Idempotency-Key"
    settings["providers.sandbox"]["operations"].append(create)
    async with started(WORKER, settings, connection_id, key, name, point) as process:
        yield process
