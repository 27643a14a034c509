"""Processes of their own that take in deliveries, or work on what follows from them, until they are killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .refresh_workers import HEAD, declared, started

if TYPE_CHECKING:
    import asyncio

SERVER = (
    HEAD
    + """
from go_services_core.testing.checks.store_queues import delivery

name = sys.argv[2]

async def main():
    async with opened() as runtime:
        say("ready")
        async def serve(lane):
            number = 0
            while True:
                id = f"{name}-{lane}-{number}"
                await runtime._core.store.queues.accept(delivery(id, provider_id="sandbox"))
                say(id)
                number += 1
        await asyncio.gather(*(serve(lane) for lane in range(8)))

asyncio.run(main())
"""
)
WORKER = (
    HEAD
    + """
import random
from functools import partial
from go_services_core.clock import SystemClock, uuid7
from go_services_core.errors import Unrecoverable
from go_services_core.handled import Handled
from go_services_core.model import Event
from go_services_store_sql.statement import Statement

behaviour = sys.argv[2]
EFFECT = Statement("INSERT INTO app_effects (kind, delivery_id) VALUES (:kind, :delivery_id)")

def work(kind, delivery_id):
    yield from EFFECT(kind=kind, delivery_id=delivery_id)

async def first(event, context):
    if behaviour == "slow":
        say("running")
        await asyncio.sleep(4)
        return partial(work, "slow", event.payload["delivery_id"])
    await asyncio.sleep(random.random() * 0.01)
    delivery_id = event.payload["delivery_id"]
    if behaviour == "poisoned" and delivery_id.endswith("-13"):
        die()
    if delivery_id.endswith("7"):
        raise Unrecoverable("Deliveries that end in 7 are refused.")
    follow = Event(id=uuid7(SystemClock()), name="app.followed", provider_id="sandbox", scope=event.scope,
                   connection_id=None, occurred_at=event.occurred_at, payload={"delivery_id": delivery_id})
    return Handled(work=partial(work, "first", delivery_id), events=[follow])

async def second(event, context):
    await asyncio.sleep(random.random() * 0.01)
    return partial(work, "second", event.payload["delivery_id"])

async def nothing(event, context):
    pass

async def main():
    async with opened() as runtime:
        await runtime.on("webhook.*", first, name="first")
        await runtime.on("app.followed", second, name="second")
        await runtime.on("webhook.*", nothing, name="nothing")
        say("ready")
        while True:
            done = await runtime.run_due("inbox", 50) + await runtime.run_due("outbox", 50)
            say(f"done {done}")
            if not done:
                await asyncio.sleep(0.05)

asyncio.run(main())
"""
)
LEASE = 1.0
TABLE = "CREATE TABLE app_effects (kind TEXT NOT NULL, delivery_id TEXT NOT NULL)"


def settings(app: Any) -> dict[str, Any]:
    return {**declared(app), "worker.lease": LEASE}


@asynccontextmanager
async def server(app: Any, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Takes in deliveries, and writes the id of each that it acknowledged."""
    async with started(SERVER, settings(app), name) as process:
        yield process


@asynccontextmanager
async def worker(app: Any, behaviour: str = "normal") -> AsyncIterator[asyncio.subprocess.Process]:
    """Works on what is due: a delivery has two handlers, one of which makes an event with a handler of its own."""
    async with started(WORKER, settings(app), behaviour) as process:
        yield process
