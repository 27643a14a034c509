"""Workers that are real processes, on both databases: killed, stopped, several at once, without their database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from go_services_core import Runtime
from go_services_core.testing.proxy import tcp_proxy

from .conftest import App
from .refresh_workers import line
from .test_refresh_kills import on_disk
from .worker_processes import settings, working

__all__ = ["on_disk"]

BODY = b'{"type": "item.created"}'


@asynccontextmanager
async def filled(app: App, count: int, name: str = "d") -> Any:
    """An open runtime with deliveries in the inbox, and the table of effects."""
    async with app.open(settings={name: value for name, value in settings(app).items() if "worker" in name}) as runtime:

        async def nothing(event: Any, context: Any) -> None:
            """Known, so that events are handed out; the processes do the work."""

        await runtime.on("webhook.*", nothing, name="effects")
        app.rows("CREATE TABLE effects (id TEXT NOT NULL, pid INTEGER NOT NULL, attempt INTEGER NOT NULL)")
        await accept(app, runtime, count, name)
        yield runtime


async def accept(app: App, runtime: Runtime, count: int, name: str = "d") -> None:
    for number in range(count):
        await runtime.accept_webhook("sandbox", app.webhook(BODY, id=f"{name}-{number}"))


async def until(app: App, count: int) -> None:
    """Wait, for a bounded time, until so many effects are there."""
    async with asyncio.timeout(60):
        while app.rows("SELECT count(*) FROM effects")[0][0] < count:
            await asyncio.sleep(0.02)


async def settled(app: App, count: int) -> None:
    """Every delivery had its effect exactly once, and nothing is left."""
    assert app.rows("SELECT count(*), count(DISTINCT id) FROM effects") == [(count, count)]
    async with asyncio.timeout(30):
        while app.rows("SELECT DISTINCT status FROM service_event_deliveries") != [("delivered",)]:
            await asyncio.sleep(0.02)
    assert app.rows("SELECT DISTINCT status FROM service_webhook_deliveries") == [("processed",)]


async def test_claims_of_a_killed_worker_are_taken_over_when_their_lease_ends(on_disk: App) -> None:
    """P66, P90: another process has them under a higher fence, and each effect is there once."""
    app = on_disk
    async with filled(app, 20), working(app, "hold") as dying:
        assert await line(dying) == "ready"
        assert await line(dying) == "holding"
        held = "SELECT event_id, fence, owner FROM service_event_deliveries WHERE status = 'processing'"
        before = {id: (fence, owner) for id, fence, owner in app.rows(held)}
        assert len(before) == 20
        async with working(app) as heir:
            assert await line(heir) == "ready"
            await asyncio.sleep(0.5)
            assert app.rows("SELECT count(*) FROM effects") == [(0,)]  # what is held is held
            os.kill(dying.pid, signal.SIGKILL)
            await until(app, 20)
            assert {pid for (pid,) in app.rows("SELECT DISTINCT pid FROM effects")} == {heir.pid}
            await settled(app, 20)
            after = dict(app.rows("SELECT event_id, fence FROM service_event_deliveries"))
            assert all(after[id] > fence for id, (fence, _) in before.items())


@pytest.mark.chaos
async def test_nothing_is_lost_and_nothing_done_twice_while_workers_are_killed(on_disk: App, chaos: Any) -> None:
    """P66, P90, P94: of several processes one after another is killed at any moment."""
    app = on_disk
    total = chaos.rounds(300, 10_000)
    async with filled(app, 0) as runtime:
        filling = asyncio.create_task(accept(app, runtime, total))
        kills = chaos.rounds(3, 40)
        for _ in range(kills):
            async with working(app, worker__lease=1.0) as one, working(app, worker__lease=1.0) as two:
                for process in (one, two):
                    assert await line(process) == "ready"
                await asyncio.sleep(chaos.random.uniform(0, 0.4))
                for process in (one, two):
                    os.kill(process.pid, signal.SIGKILL)
        await filling
        async with working(app, worker__lease=1.0) as last:
            assert await line(last) == "ready"
            async with asyncio.timeout(chaos.rounds(60, 900)):
                while app.rows("SELECT count(*) FROM effects")[0][0] < total:
                    await asyncio.sleep(0.05)
            await settled(app, total)


async def test_processes_on_one_database_share_the_work(on_disk: App) -> None:
    app = on_disk
    async with (
        filled(app, 60),
        working(app, "slow", worker__batch=4) as one,
        working(app, "slow", worker__batch=4) as two,
    ):
        await asyncio.gather(*(line(process) for process in (one, two)))
        await until(app, 60)
        await settled(app, 60)
        assert len(app.rows("SELECT DISTINCT pid FROM effects")) == 2
        status = await asyncio.create_task(_status(app))
        assert sorted(process.pid for process in status.alive) == sorted((one.pid, two.pid))


async def _status(app: App) -> Any:
    async with app.open() as runtime:
        return await runtime.worker_status()


async def test_worker_that_is_told_to_stop_ends_what_runs_and_gives_back_the_rest(on_disk: App) -> None:
    app = on_disk
    async with filled(app, 20) as runtime, working(app, "slow") as process:
        assert await line(process) == "ready"
        assert await line(process) == "running"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert process.stdout is not None
        done, failed, cut_off = json.loads((await process.stdout.read()).decode().splitlines()[-1])
        assert (failed, cut_off) == (0, [])
        ran = app.rows("SELECT count(*) FROM effects")[0][0]
        assert 1 <= ran < 20
        assert done == 20 + ran  # deliveries that became events, and events that were handled
        left = app.rows("SELECT status, attempts, owner, count(*) FROM service_event_deliveries "
                        "WHERE status <> 'delivered' GROUP BY 1, 2, 3")  # fmt: skip
        assert left == [("pending", 0, None, 20 - ran)]
        assert (await runtime.worker_status()).processes == ()
        due = {queue.queue: queue.due for queue in (await runtime.worker_status()).backlog}
        assert due["outbox"] == 20 - ran  # at once, not when a lease ends


async def test_handler_that_outlives_the_grace_is_cut_off_and_given_back(on_disk: App) -> None:
    app = on_disk
    async with filled(app, 5) as runtime, working(app, "hold", worker__grace=0.2) as process:
        assert await line(process) == "ready"
        assert await line(process) == "holding"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert process.stdout is not None
        assert json.loads((await process.stdout.read()).decode().splitlines()[-1])[2] == ["outbox"]
        assert app.rows("SELECT DISTINCT status, attempts, owner FROM service_event_deliveries") == [
            ("pending", 0, None)
        ]
        due = {queue.queue: queue.due for queue in (await runtime.worker_status()).backlog}
        assert due["outbox"] == 5


async def test_worker_goes_on_when_its_database_comes_back(on_disk: App) -> None:
    """P95: connections are cut, and new ones are refused for a while; nobody restarts the worker."""
    app = on_disk
    url = app.settings["store.url"]
    if not url.startswith("postgres"):
        pytest.skip("the database is a file")
    target = urlsplit(url)
    assert target.hostname is not None
    async with filled(app, 5) as runtime, tcp_proxy(target.hostname, target.port or 5432) as proxy:
        there = target._replace(netloc=target.netloc.replace(f":{target.port}", f":{proxy.port}")).geturl()
        async with working(app, store__url=there, store__pool_timeout=1.0) as process:
            assert await line(process) == "ready"
            await until(app, 5)
            proxy.hold()
            proxy.cut(reset=True)
            await accept(app, runtime, 5, "during")
            await asyncio.sleep(2)
            assert app.rows("SELECT count(*) FROM effects") == [(5,)]
            proxy.release()
            await until(app, 10)
            await settled(app, 10)
            assert process.returncode is None


async def test_process_that_died_is_shown_as_not_alive(on_disk: App) -> None:
    app = on_disk
    async with filled(app, 0) as runtime, working(app, worker__lease=0.5) as process:
        assert await line(process) == "ready"
        (seen,) = (await runtime.worker_status()).processes
        assert (seen.pid, seen.alive, seen.kinds) == (process.pid, True, ("inbox", "outbox"))
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while (await runtime.worker_status()).alive:
                await asyncio.sleep(0.05)
        (dead,) = (await runtime.worker_status()).processes
        assert evolve(dead, age=0, alive=True, counts={}) == evolve(seen, age=0, counts={})
