"""The worker in this process: its loops, what wakes them, what they cost, and what is seen of them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from go_services_core.errors import BadInput, ConfigError, Conflict, StoreUnavailable
from go_services_core.metrics import updates
from go_services_core.runtime import due, worker

BODY = b'{"type": "item.created"}'
FAST = {"worker.poll": 0.05, "worker.grace": 5.0}


@asynccontextmanager
async def at_work(runtime, **options):
    """The worker as a task; stopped with the block."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(runtime.work(stop=stop, ready=ready.set, **options))
    try:
        async with asyncio.timeout(10):
            await asyncio.wait({task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        yield task
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await task


async def eventually(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def test_delivery_is_handled_without_a_poll_where_the_worker_accepted_it_itself(live):
    async with live.open(settings={"worker.poll": 3600.0}) as runtime:
        seen = []

        async def handler(event, context):
            seen.append(event.payload["delivery_id"])

        await runtime.on("webhook.*", handler, name="h")
        async with at_work(runtime):
            await asyncio.sleep(0.1)
            await runtime.accept_webhook("sandbox", live.webhook(BODY))
            await eventually(lambda: seen == ["msg_1"])


async def test_wake_that_comes_while_a_loop_works_is_not_lost(live, monkeypatch):
    """What is accepted after the claim, and before the loop waits, is looked for at once: a poll is an hour here."""
    began, go_on = asyncio.Event(), asyncio.Event()
    inbox = due.KINDS["inbox"]

    async def slow(core, runtime, limit):
        ended = await inbox(core, runtime, limit)
        began.set()
        await go_on.wait()
        return ended

    monkeypatch.setattr(due, "KINDS", {**due.KINDS, "inbox": slow})
    async with live.open(settings={"worker.poll": 3600.0}) as runtime:
        seen = []

        async def handler(event, context):
            seen.append(event.payload["delivery_id"])

        await runtime.on("webhook.*", handler, name="h")
        async with at_work(runtime):
            async with asyncio.timeout(20):
                await began.wait()
            await runtime.accept_webhook("sandbox", live.webhook(BODY))
            go_on.set()
            await eventually(lambda: seen == ["msg_1"])


async def test_backlog_is_worked_off_without_waits_between_full_batches(live):
    """40 batches with a wait of an hour after each that is not full."""
    settings = {"worker.poll": 3600.0, "worker.batch": 2}
    async with live.open(settings=settings) as runtime:
        seen = []

        async def handler(event, context):
            seen.append(event.id)

        await runtime.on("webhook.*", handler, name="h")
        for number in range(80):
            await runtime.accept_webhook("sandbox", live.webhook(BODY, id=f"d{number}"))
        async with at_work(runtime):
            await eventually(lambda: len(seen) == 80)


async def test_loop_that_cannot_work_tells_once_and_holds_up_no_other(live, monkeypatch, caplog):
    """P91: not even the loop of retention, which is stuck for ever here, keeps the others from their work."""
    stuck = asyncio.Event()
    calls = 0

    async def broken(core, runtime, limit):
        nonlocal calls
        calls += 1
        if calls < 4:
            raise StoreUnavailable("The database is away.")
        return 0, 0

    async def hanging(core, runtime, limit):
        stuck.set()
        await asyncio.sleep(3600)
        return 0, 0

    monkeypatch.setattr(due, "KINDS", {**due.KINDS, "connections.revoke": broken, "retention": hanging})
    told = []
    async with live.open(settings={**FAST, "worker.grace": 0.1}) as runtime:
        runtime.observe(lambda seen: told.append((seen.name, seen.ok)), name="o", inline=True)
        seen = []

        async def handler(event, context):
            seen.append(event.id)

        await runtime.on("webhook.*", handler, name="h")
        async with at_work(runtime) as task:
            await stuck.wait()
            await eventually(lambda: calls >= 3)
            await runtime.accept_webhook("sandbox", live.webhook(BODY))
            await eventually(lambda: len(seen) == 1)
            await eventually(lambda: calls >= 5)
        assert task.result().cut_off == ("retention",)
    assert [one for one in told if one[0].startswith("worker.") and one[0] != "worker.backlog"] == [
        ("worker.failed", False),
        ("worker.recovered", True),
    ]
    said = [record.message for record in caplog.records if "connections.revoke" in record.message]
    assert len(said) == 2
    assert "The database is away" in said[0]


async def test_idle_worker_asks_the_database_a_bounded_number_of_things(live):
    """One look of a queue is at most 2 statements, and a beat at most 2, with nothing else in between."""
    async with live.open(settings={"worker.poll": 3600.0}) as runtime:
        texts = []
        runtime._core.store.trace(texts.append)
        async with at_work(runtime):
            await asyncio.sleep(0.3)
            looked = [text for text in texts if "service_" in text]
        runtime._core.store.trace(None)
    by_queue = [sum(table in text for text in looked) for table in ("webhook_deliveries", "sync_jobs", "workers")]
    assert by_queue[0] <= 1 + 1  # a claim; retention goes through the table
    assert by_queue[1] <= 4 + 1  # a claim for each kind of job
    assert by_queue[2] == 2
    assert sum("service_lifecycle_outbox" in text or "service_event_deliveries" in text for text in looked) <= 4


async def test_handled_events_have_no_periodic_work_done_more_often(live, monkeypatch):
    """What is looked for every 15 or 60 seconds is not looked for after each batch of events."""
    looks = dict.fromkeys(due.POLLS, 0)

    def counting(kind, work):
        async def counted(core, runtime, limit):
            looks[kind] += 1
            return await work(core, runtime, limit)

        return counted

    monkeypatch.setattr(due, "KINDS", {**due.KINDS, **{kind: counting(kind, due.KINDS[kind]) for kind in due.POLLS}})
    async with live.open(settings=FAST) as runtime:
        seen = []

        async def handler(event, context):
            seen.append(event.id)

        await runtime.on("webhook.*", handler, name="h")
        async with at_work(runtime):
            for number in range(5):
                await runtime.accept_webhook("sandbox", live.webhook(BODY, id=f"d{number}"))
                await eventually(lambda number=number: len(seen) == number + 1)
                await asyncio.sleep(0.1)
    assert looks == dict.fromkeys(due.POLLS, 1)


async def test_kinds_are_chosen_and_unknown_ones_refused(live):
    async with live.open(settings=FAST) as runtime:
        with pytest.raises(BadInput, match=r"inbox, outbox"):
            await runtime.work(kinds=["inbox", "mail"])
        async with at_work(runtime, kinds=["outbox"]):
            with pytest.raises(Conflict, match="working already"):
                await runtime.work()
            await runtime.accept_webhook("sandbox", live.webhook(BODY))
            await asyncio.sleep(0.3)
            assert live.rows("SELECT status FROM service_webhook_deliveries") == [("pending",)]
            (process,) = (await runtime.worker_status()).processes
            assert process.kinds == ("outbox",)
        assert (await runtime.worker_status()).processes == ()
    with pytest.raises(ConfigError, match=r"worker\.kinds\.mail"):
        async with live.open(settings={"worker.kinds": {"mail": {"batch": 3}}}):
            pass
    with pytest.raises(ConfigError, match="concurrency"):
        async with live.open(settings={"worker.kinds": {"inbox": {"concurrency": 0}}}):
            pass


async def test_kind_has_its_own_batch_and_runs_so_many_batches_at_once(live):
    settings = {**FAST, "worker.kinds": {"outbox": {"batch": 1, "concurrency": 3}}}
    async with live.open(settings=settings) as runtime:
        running, most = 0, 0
        go_on = asyncio.Event()

        async def handler(event, context):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await go_on.wait()
            running -= 1

        await runtime.on("webhook.*", handler, name="h")
        for number in range(6):
            await runtime.accept_webhook("sandbox", live.webhook(BODY, id=f"d{number}"))
        async with at_work(runtime, kinds=["inbox", "outbox"]):
            await eventually(lambda: running == 3)
            await asyncio.sleep(0.1)
            assert live.rows("SELECT count(*) FROM service_event_deliveries WHERE status = 'processing'") == [(3,)]
            go_on.set()
            await eventually(lambda: running == 0 and most == 3)


async def test_cancelled_worker_gives_back_what_it_holds(live):
    async with live.open(settings=FAST) as runtime:
        began = asyncio.Event()

        async def handler(event, context):
            began.set()
            await asyncio.sleep(3600)

        await runtime.on("webhook.*", handler, name="h")
        for number in range(3):
            await runtime.accept_webhook("sandbox", live.webhook(BODY, id=f"d{number}"))
        task = asyncio.create_task(runtime.work())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert live.rows("SELECT DISTINCT status, attempts, owner FROM service_event_deliveries") == [
            ("pending", 0, None)
        ]
        assert (await runtime.worker_status()).processes == ()
        async with at_work(runtime, kinds=["inbox"]):  # and it may begin again
            pass


async def test_status_tells_what_each_kind_did_and_what_waits(live, monkeypatch):
    async def broken(core, runtime, limit):
        raise StoreUnavailable("The database is away.")

    monkeypatch.setattr(due, "KINDS", {**due.KINDS, "retention": broken})
    async with live.open(settings={**FAST, "worker.lease": 0.3, "worker.max_lag": 0.2}) as runtime:

        async def handler(event, context):
            if event.payload["delivery_id"] == "bad":
                raise ValueError

        await runtime.on("webhook.*", handler, name="h")
        await runtime.accept_webhook("sandbox", live.webhook(BODY, id="waits"))
        await asyncio.sleep(0.4)
        before = await runtime.worker_status()
        assert [(queue.queue, queue.due) for queue in before.late] == [("inbox", 1)]
        health = dict(await runtime.health())["worker"]
        assert not health.ok
        assert "nobody works" in health.detail
        assert "worker run" in health.remedy
        await runtime.accept_webhook("sandbox", live.webhook(BODY, id="bad"))
        async with at_work(runtime):
            async with asyncio.timeout(20):
                while True:
                    status = await runtime.worker_status()
                    if status.kinds and status.kinds["outbox"].done and status.kinds["outbox"].failed:
                        break
                    await asyncio.sleep(0.05)
            assert (status.kinds["inbox"].done, status.kinds["outbox"].done) == (2, 1)
            assert status.kinds["outbox"].failed == 1
            assert status.kinds["inbox"].last_success is not None
            assert (status.kinds["retention"].error, status.kinds["retention"].last_success) == (
                StoreUnavailable.code,
                None,
            )
            assert status.late == ()
            health = dict(await runtime.health())["worker"]
            assert (health.ok, health.detail) == (True, "1 alive, nothing late")


async def test_backlog_is_observed_and_becomes_gauges(live):
    told = []
    async with live.open(settings={**FAST, "worker.lease": 0.3}) as runtime:
        runtime.observe(told.append, name="o", inline=True)
        await runtime.accept_webhook("sandbox", live.webhook(BODY))
        async with at_work(runtime, kinds=["retention"]):
            await eventually(lambda: any(one.name == "worker.backlog" and one.detail["lag"] for one in told))
    (first,) = [one for one in told if one.name == "worker.backlog" and one.detail["lag"]][:1]
    made = {update.name: update for update in updates(first)}
    assert set(made) == {f"services.worker.backlog.{name}" for name in ("due", "lag", "dead")}
    assert {update.kind for update in made.values()} == {"gauge"}
    assert made["services.worker.backlog.due"].value == 1
    assert 0 < made["services.worker.backlog.lag"].value < 30
    assert {update.tags["operation"] for update in made.values()} == {"inbox"}


async def test_store_that_does_not_keep_workers_still_has_them(either, monkeypatch):
    """A store of another plugin may have no such facet: liveness is not known then, work is done."""
    async with either.open(settings=FAST) as runtime:
        monkeypatch.delattr(runtime._core.store, "workers")
        health = dict(await runtime.health())["worker"]
        assert health.ok
        seen = []

        async def handler(event, context):
            seen.append(event.id)

        await runtime.on("webhook.*", handler, name="h")
        async with at_work(runtime, kinds=["inbox", "outbox"]):
            await runtime.accept_webhook("sandbox", either.webhook(BODY))
            await eventually(lambda: len(seen) == 1)


async def test_waits_are_shortened_at_random_so_that_processes_spread(live, monkeypatch):
    asked = []
    shortened = worker.shortened

    def watched(seconds, byte):
        asked.append((seconds, byte, shortened(seconds, byte)))
        return asked[-1][2]

    monkeypatch.setattr(worker, "shortened", watched)
    async with live.open(settings=FAST) as runtime, at_work(runtime, kinds=["inbox"]):
        await eventually(lambda: len(asked) > 10)
    assert {seconds for seconds, *_ in asked} == {0.05}
    assert len({wait for *_, wait in asked}) > 3
    assert all(0.04 <= wait <= 0.05 for *_, wait in asked)


def test_blocking_runtime_works_until_another_thread_stops_it(tmp_path):
    from go_services_core import BlockingRuntime
    from go_services_secrets_appkey.key import generate_key

    arguments = {"store.url": f"sqlite:///{tmp_path}/app.db", "secrets.appkey.key": generate_key(), **FAST}
    with BlockingRuntime.open(arguments=arguments, migrate=True) as runtime:
        stop, ready = threading.Event(), threading.Event()
        found = []
        thread = threading.Thread(target=lambda: found.append(runtime.work(stop=stop, ready=ready.set)))
        thread.start()
        assert ready.wait(20)
        (process,) = runtime.worker_status().alive
        assert process.kinds == tuple(due.KINDS)
        stop.set()
        thread.join(20)
        assert found[0].cut_off == ()
        assert runtime.worker_status().processes == ()
