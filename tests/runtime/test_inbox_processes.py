"""The inbox of real processes on both databases: killed at any moment, and at once."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from aiohttp import ClientError

from go_services_core.clock import SystemClock
from go_services_core.errors import ConnectFailed, RequestTimeout, TransportError
from go_services_core.testing.sandbox.webhooks import send

from .conftest import App
from .inbox_workers import worker
from .refresh_workers import line
from .test_refresh_kills import on_disk

__all__ = ["on_disk"]


async def post(app: App, port: str, id: str) -> int | None:
    """The status of the answer; None where none came."""
    stamp = int(SystemClock().now().timestamp())
    try:
        return await send(
            f"http://127.0.0.1:{port}/",
            b'{"type": "item"}',
            delivery_id=id,
            timestamp=stamp,
            secret=app.sandbox.webhook_secret,
            headers={},
        )
    except (ClientError, ConnectFailed, RequestTimeout, TransportError):
        return None


async def go(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    await process.stdin.drain()


@pytest.mark.chaos
async def test_nothing_acknowledged_is_lost_and_nothing_is_passed_on_twice(on_disk: App, chaos: Any) -> None:
    """P66, P90, P94: servers and workers are killed at random; what got no answer is sent again, as providers do."""
    app = on_disk
    got: list[str] = []
    acknowledged: list[str] = []

    async def handler(event: Any, context: Any) -> None:
        got.append(event.payload["delivery_id"])

    async with app.open() as runtime:
        await runtime.on("webhook.*", handler, name="h")
        for round in range(chaos.rounds(3, 100)):
            left = [f"r{round}-{number}" for number in range(chaos.rounds(40, 100))]
            async with worker(app, "pass_on") as passing:
                assert await line(passing) == "ready"
                await go(passing)
                while left:
                    async with worker(app, "serve") as serving:
                        port = await line(serving)
                        os_kill = asyncio.get_running_loop().call_later(
                            chaos.random.uniform(0.02, 0.6), os.kill, serving.pid, signal.SIGKILL
                        )
                        answers = await asyncio.gather(*(post(app, port, id) for id in left))
                        os_kill.cancel()
                    said = [id for id, status in zip(left, answers, strict=True) if status == 204]
                    acknowledged += said
                    left = [id for id in left if id not in said]
                    if passing.returncode is None and chaos.random.random() < 0.7:
                        passing.kill()
        async with asyncio.timeout(60):
            while await pending(runtime):
                await runtime.drain()
                await asyncio.sleep(0.05)
        await runtime.drain()
    assert sorted(got) == sorted(set(acknowledged))


async def pending(runtime: Any) -> tuple[Any, ...]:
    """What waits, or is held by a process that was killed."""
    found = [(await runtime.deliveries(status=status)).items for status in ("pending", "processing", "retry_ready")]
    return tuple(one for items in found for one in items)


@pytest.mark.chaos
async def test_operators_in_several_processes_cause_one_replay(on_disk: App, chaos: Any) -> None:
    """P73."""
    app = on_disk
    calls: list[str] = []

    async def handler(event: Any, context: Any) -> None:
        calls.append(event.id)

    async with app.open() as runtime:
        await runtime.on("webhook.*", handler, name="h")
        for round in range(chaos.rounds(2, 20)):
            for number in range(60):
                await runtime.accept_webhook("sandbox", app.webhook(b"{}", id=f"{round}-{number}"))
            while await runtime.run_due("inbox"):
                pass
            queues = runtime._core.store.queues
            while claims := await queues.claim("outbox", owner="x", lease=60, limit=100, handlers=["h"]):
                assert await queues.settle_many(claims, "dead") == []
            async with worker(app, "replay") as one, worker(app, "replay") as two:
                for process in (one, two):
                    assert await line(process) == "ready"
                for process in (one, two):
                    await go(process)
                counts = [(await line(process)).split() for process in (one, two)]
            assert sum(int(handlers) for handlers, _ in counts) == 60, counts
            while (await runtime.drain()).events:
                pass
            assert len(calls) == len(set(calls)) == 60 * (round + 1)
