"""Servers and workers that are killed, on both databases: nothing acknowledged is lost, no effect is there twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import pytest

from go_services_core.testing.checks.store_queues import delivery

from .conftest import App
from .outbox_workers import LEASE, TABLE, server, worker
from .refresh_workers import line
from .test_refresh_kills import on_disk

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
__all__ = ["on_disk"]


def effects(app: App, kind: str) -> Counter[str]:
    return Counter(id for (id,) in app.rows(f"SELECT delivery_id FROM app_effects WHERE kind = '{kind}'"))


def open_items(app: App) -> int:
    ((inbox,),) = app.rows("SELECT count(*) FROM service_webhook_deliveries WHERE status NOT IN ('processed', 'dead')")
    ((events,),) = app.rows("SELECT count(*) FROM service_pending_events")
    ((handed,),) = app.rows("SELECT count(*) FROM service_event_deliveries WHERE status NOT IN ('delivered', 'dead')")
    return int(inbox) + int(events) + int(handed)


async def known(runtime: Any) -> None:
    """Make the workers' handlers known before there is a worker."""
    patterns = {"first": "webhook.*", "nothing": "webhook.*", "second": "app.followed"}
    await runtime._core.store.queues.register_handlers(patterns, now=runtime._core.clock.now())


async def emptied(app: App, behaviour: str = "normal") -> None:
    """Work on until nothing is open, in a process that nobody kills."""
    async with worker(app, behaviour) as process, asyncio.timeout(300):
        while await line(process) != "done 0" or open_items(app):
            pass


async def kill(process: asyncio.subprocess.Process) -> list[str]:
    """SIGKILL; gives the whole lines that it had written."""
    os.kill(process.pid, signal.SIGKILL)
    assert process.stdout is not None
    rest = (await asyncio.wait_for(process.stdout.read(), 60)).decode()
    assert await process.wait() == -signal.SIGKILL
    return rest.split("\n")[:-1]


async def test_nothing_acknowledged_is_lost_and_no_effect_is_there_twice(on_disk: App, chaos: Any) -> None:
    """P66, P72, P90, P94: under random SIGKILL of servers and workers."""
    app = on_disk
    wanted = chaos.rounds(200, 10_000)
    async with app.open() as runtime:
        app.rows(TABLE)
        await known(runtime)  # what is accepted before that is older than the handlers
    acknowledged: set[str] = set()
    round = 0
    while len(acknowledged) < wanted:
        async with server(app, f"s{round}") as serving, worker(app) as one, worker(app) as other:
            for process in (serving, one, other):
                assert await line(process) == "ready"
            for _ in range(chaos.random.randrange(20, 200)):
                acknowledged.add(await line(serving))
            acknowledged.update(await kill(serving))
            for process in (one, other):
                await asyncio.sleep(chaos.random.uniform(0, 0.3))
                await kill(process)
        round += 1
    await emptied(app)

    refused = {id for id in acknowledged if id.endswith("7")}
    for kind in ("first", "second"):
        found = effects(app, kind)
        assert found.most_common(1)[0][1] == 1, (kind, found.most_common(3))
        assert acknowledged - refused <= found.keys()
        assert not [id for id in found if id.endswith("7")]
    dead = app.rows(
        "SELECT handler, last_error, count(*) FROM service_event_deliveries WHERE status = 'dead' GROUP BY 1, 2"
    )
    stored = [id for (id,) in app.rows("SELECT delivery_id FROM service_webhook_deliveries") if id.endswith("7")]
    assert refused <= set(stored)
    assert dead == [("first", "Deliveries that end in 7 are refused.", len(stored))]
    assert app.rows("SELECT DISTINCT status FROM service_event_deliveries WHERE handler = 'nothing'") == [
        ("delivered",)
    ]


async def test_event_that_ends_its_process_is_set_aside_and_its_neighbours_are_handled(on_disk: App) -> None:
    """P96."""
    app = on_disk
    async with app.open() as runtime:
        app.rows(TABLE)
        await known(runtime)
        for number in range(10, 16):
            await runtime._core.store.queues.accept(delivery(f"d-{number}", provider_id="sandbox"))
    for _ in range(16):
        async with worker(app, "poisoned") as process:
            try:
                async with asyncio.timeout(60):
                    while (said := await line(process)) and (said != "done 0" or open_items(app)):
                        pass
            except TimeoutError:
                pytest.fail("the worker neither ended nor emptied the queue")
            if not said:
                assert await process.wait() == -signal.SIGKILL
                app.rows("UPDATE service_event_deliveries SET next_attempt_at = updated_at WHERE status = 'processing'")
                continue
            break
    assert open_items(app) == 0
    assert sorted(effects(app, "first")) == ["d-10", "d-11", "d-12", "d-14", "d-15"]
    assert max(effects(app, "first").values()) == 1
    (row,) = app.rows("SELECT handler, attempts, last_error FROM service_event_deliveries WHERE status = 'dead'")
    assert row == ("first", 11, "Each process that ran the handler for this event ended before the handler did.")


async def test_stopped_process_loses_its_lease_and_its_late_settlement_is_refused(on_disk: App) -> None:
    """P67: while the process lives the heartbeat keeps the lease; while it is stopped a successor takes over."""
    app = on_disk
    async with app.open() as runtime:
        app.rows(TABLE)
        await known(runtime)
        await runtime._core.store.queues.accept(delivery("d-1", provider_id="sandbox"))
    async with worker(app, "slow") as slow, asyncio.timeout(60):
        while await line(slow) != "running":
            pass
        await asyncio.sleep(1.5 * LEASE)
        fence = "SELECT fence, attempts FROM service_event_deliveries WHERE handler = 'first'"
        async with app.open(settings={"worker.lease": LEASE}) as runtime:

            async def never(event: Any, context: Any) -> None:
                raise AssertionError("the lease is held")

            await runtime.on("webhook.*", never, name="first")
            assert await runtime.run_due("outbox") == 0  # slower than its lease, and held by the heartbeat
            assert app.rows(fence) == [(1, 1)]
        os.kill(slow.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(1.5 * LEASE)
            await emptied(app)
            assert app.rows(fence) == [(2, 2)]
        finally:
            os.kill(slow.pid, signal.SIGCONT)
        while await line(slow) != "done 0":
            pass
    assert (effects(app, "first"), effects(app, "slow")) == (Counter(["d-1"]), Counter())
