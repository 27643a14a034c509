"""Processes of their own that finish consents, and that kill themselves where they are told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from .refresh_workers import HEAD, declared, line, started

WORKER = (
    HEAD
    + """
def arm(core, point):
    name, _, delay = point.partition(" ")
    facet = core.store.connections
    if name == "before-consume":
        core.store.connections = Beside(facet, consume_attempt=killing(facet.consume_attempt, "before"))
    elif name == "after-consume":
        core.store.connections = Beside(facet, consume_attempt=killing(facet.consume_attempt, "after"))
    elif name == "after-answer":
        core.transport = Beside(core.transport, send=killing(core.transport.send, "after"))
    elif name == "in-commit":
        core.store.connections = Beside(facet, establish=killing(facet.establish, "during", float(delay)))
    elif name == "after-commit":
        core.store.connections = Beside(facet, establish=killing(facet.establish, "after"))
    else:
        assert name in ("", "after-request"), name  # whoever watches the provider kills

async def main():
    async with opened() as runtime:
        arm(runtime._core, sys.argv[2] if len(sys.argv) > 2 else "")
        say("armed")
        loop = asyncio.get_running_loop()
        while given := await loop.run_in_executor(None, sys.stdin.readline):
            call, subject, binding = json.loads(given)
            try:
                made = await getattr(runtime, call)(subject, binding=binding)
                say(made.id)
            except Exception as error:
                say(type(error).__name__)

asyncio.run(main())
"""
)


def with_identity(app: Any) -> dict[str, Any]:
    """The settings for a worker; its provider says whose account it is, as the application's own does."""
    settings = declared(app)
    settings["providers.sandbox"]["identity"] = {"url": "/userinfo", "account": "id"}
    return settings


@asynccontextmanager
async def callback_worker(settings: Mapping[str, Any], point: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that waits for what to finish, and is killed at ``point``."""
    async with started(WORKER, dict(settings), point) as process:
        assert await line(process) == "armed"
        yield process


def tell(process: asyncio.subprocess.Process, call: str, subject: Any, binding: str) -> None:
    """Have the process call ``complete`` with parameters, or ``poll_device`` with an attempt's id."""
    assert process.stdin is not None
    process.stdin.write(json.dumps([call, subject, binding]).encode() + b"\n")
