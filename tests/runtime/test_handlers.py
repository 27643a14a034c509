"""How durable handlers run: several at once, each within its time, and every end of theirs is typed."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from go_services_core import EventHandlerSpec, Ref
from go_services_core.clock import uuid7
from go_services_core.delivery_specs import InboxPolicy, Schedule
from go_services_core.errors import BadInput, Conflict, NotFound, RetryLater, Unrecoverable
from go_services_core.handled import Handled, Position
from go_services_core.model import Drained, Event, NewJob, Scope
from go_services_core.runtime import claims, handlers
from go_services_core.runtime.stand_ins import REWRAP
from go_services_core.testing.checks.store_queues import emit

from .test_events import CREATE, EFFECT, make_due

TABLE = "service_event_deliveries"


@pytest.fixture(autouse=True)
def long_lived(sandbox: Any) -> None:
    sandbox.access_token_lifetime = 365 * 86400.0


def event(runtime: Any, name: str = "test.happened", **fields: Any) -> Event:
    clock = runtime._core.clock
    given = {"provider_id": "sandbox", "scope": Scope("user", "u1"), "connection_id": None, **fields}
    return Event(id=uuid7(clock), name=name, occurred_at=clock.now(), **given)


async def told(runtime: Any, count: int, **fields: Any) -> list[Event]:
    events = [event(runtime, **fields) for _ in range(count)]
    await emit(runtime._core.store, *events)
    return events


async def states(runtime: Any) -> Counter[str]:
    return Counter(item.status for item in (await runtime.outbox(limit=1000)).items)


class Gauge:
    """A handler that knows how many of it ran at once."""

    def __init__(self) -> None:
        self.now = self.most = self.runs = 0

    async def __call__(self, event: Event, context: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.runs += 1
        await asyncio.sleep(0.01)
        self.now -= 1


async def test_batch_runs_as_many_at_once_as_the_worker_may(live: Any) -> None:
    async with live.open(settings={"worker.concurrency": 3}) as runtime:
        gauge = Gauge()
        await runtime.on("*", gauge, name="h")
        await told(runtime, 12)
        assert await runtime.run_due("outbox") == 12
        assert (gauge.most, gauge.runs) == (3, 12)


async def test_handler_has_a_limit_of_its_own(live: Any) -> None:
    async with live.open() as runtime:
        few, many = Gauge(), Gauge()
        await runtime.on("*", few, name="few", concurrency=2)
        await runtime.on("*", many, name="many")
        await told(runtime, 8)
        assert await runtime.run_due("outbox") == 16
        assert few.most == 2
        assert many.most > 2


async def test_webhooks_of_a_provider_have_its_limit_and_other_events_do_not(live: Any) -> None:
    live.set(inbox=InboxPolicy(concurrency=2))
    async with live.open() as runtime:
        hooks, others = Gauge(), Gauge()
        await runtime.on("webhook.*", hooks, name="hooks")
        await runtime.on("test.*", others, name="others")
        await told(runtime, 8, name="webhook.ping", source="webhook")
        await told(runtime, 8)
        assert await runtime.run_due("outbox") == 16
        assert hooks.most == 2
        assert others.most > 2


async def test_hang_ends_as_a_timeout_and_holds_up_no_one(live: Any) -> None:
    async with live.open() as runtime:
        good = Gauge()

        async def hangs(event: Event, context: Any) -> None:
            await asyncio.Event().wait()

        await runtime.on("*", hangs, name="hangs", timeout=0.05)
        await runtime.on("*", good, name="good")
        await told(runtime, 3)
        assert await runtime.run_due("outbox") == 3
        items = (await runtime.outbox(handler="hangs")).items
        assert {(item.status, item.error) for item in items} == {
            ("retry_ready", "The handler did not end within 0.05 seconds.")
        }
        assert good.runs == 3


@pytest.mark.parametrize(("source", "seconds"), [("webhook", "0.05"), ("runtime", "0.07")])
async def test_time_is_the_providers_for_webhooks_else_the_workers(live: Any, source: str, seconds: str) -> None:
    live.set(inbox=InboxPolicy(timeout=0.05))
    async with live.open(settings={"worker.handler_timeout": 0.07}) as runtime:

        async def hangs(event: Event, context: Any) -> None:
            await asyncio.Event().wait()

        await runtime.on("*", hangs, name="hangs")
        await told(runtime, 1, source=source)
        assert await runtime.run_due("outbox") == 0
        (item,) = (await runtime.outbox()).items
        assert item.error == f"The handler did not end within {seconds} seconds."


async def test_timeout_of_the_handlers_own_is_not_taken_for_ours(live: Any) -> None:
    async with live.open() as runtime:

        async def impatient(event: Event, context: Any) -> None:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(5)

        await runtime.on("*", impatient, name="h")
        await told(runtime, 1)
        assert await runtime.run_due("outbox") == 0
        assert [item.error for item in (await runtime.outbox()).items] == ["TimeoutError"]


async def test_handler_that_ignores_its_cancellation_is_left_behind(live: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("go_services_core.runtime.delivery.GRACE", 0.1)
    monkeypatch.setattr(claims, "PATIENCE", 0.05)
    async with live.open() as runtime:
        released = asyncio.Event()

        async def stubborn(event: Event, context: Any) -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        await runtime.on("*", stubborn, name="h", timeout=0.05)
        await told(runtime, 1)
        assert await asyncio.wait_for(runtime.run_due("outbox"), 10) == 0
        (item,) = (await runtime.outbox()).items
        assert (item.status, item.error) == (
            "retry_ready",
            "The handler did not end within its time, nor when it was cancelled.",
        )
        released.set()
        while runtime._core.tasks:
            await asyncio.sleep(0.01)
        assert await states(runtime) == {"retry_ready": 1}  # its late end settles nothing


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), ValueError("hunter2")])
async def test_whatever_a_handler_raises_ends_it_and_nothing_else(live: Any, error: BaseException) -> None:
    async with live.open() as runtime:
        good = Gauge()

        async def raises(event: Event, context: Any) -> None:
            raise error

        await runtime.on("*", raises, name="bad")
        await runtime.on("*", good, name="good")
        await told(runtime, 2)
        assert await runtime.run_due("outbox") == 2
        items = (await runtime.outbox(handler="bad")).items
        assert [(item.status, item.error) for item in items] == [("retry_ready", type(error).__name__)] * 2
        assert good.runs == 2


async def test_unrecoverable_event_is_dead_at_once_with_its_reason(either: Any) -> None:
    async with either.open() as runtime:

        async def refuses(event: Event, context: Any) -> None:
            raise Unrecoverable("The order is from before the move.")

        await runtime.on("*", refuses, name="h")
        await told(runtime, 1)
        assert await runtime.drain() == Drained(failed=1, deliveries=0)
        (item,) = (await runtime.outbox(status="dead")).items
        assert (item.error, item.attempts) == ("The order is from before the move.", 1)


async def test_handler_chooses_when_it_is_called_again(either: Any) -> None:
    async with either.open() as runtime:
        delays = []

        async def later(event: Event, context: Any) -> None:
            raise RetryLater("The vendor asks for an hour.", after=3600.0)

        def note(seen: Any) -> None:
            if seen.name == "outbox" and seen.phase == "retry":
                delays.append(seen.detail["delay"])

        await runtime.on("*", later, name="h", schedule=Schedule(delays=(1.0, 1.0)))
        runtime.observe(note, name="note", inline=True)
        await told(runtime, 1)
        for _ in range(5):
            await runtime.run_due("outbox")
            make_due(either)
        assert delays == [3600.0, 3600.0]
        assert await states(runtime) == {"dead": 1}
    with pytest.raises(BadInput):
        RetryLater(after=float("nan"))


@pytest.mark.parametrize("own", [True, False])
async def test_schedule_is_the_handlers_else_the_providers_with_jitter(either: Any, own: bool) -> None:
    either.set(inbox=InboxPolicy(schedule=Schedule(delays=(70.0,), jitter=0)))
    mine = Schedule(delays=(10.0, 20.0), jitter=0.5)
    async with either.open() as runtime:
        delays: list[float] = []

        async def fails(event: Event, context: Any) -> None:
            raise ValueError

        def note(seen: Any) -> None:
            if seen.name == "outbox" and seen.phase == "retry":
                delays.append(seen.detail["delay"])

        await runtime.on("*", fails, name="h", schedule=mine if own else None)
        runtime.observe(note, name="note", inline=True)
        await told(runtime, 1, source="webhook")
        for _ in range(5):
            await runtime.run_due("outbox")
            make_due(either)
        assert await states(runtime) == {"dead": 1}
        if own:
            assert len(delays) == 2
            assert 10 <= delays[0] < 15
            assert 20 <= delays[1] < 30
        else:
            assert delays == [70.0]


async def test_options_of_a_handler_are_checked(app: Any, runtime: Any) -> None:
    for wrong in ({"timeout": 0}, {"timeout": float("inf")}, {"concurrency": 0}, {"name": " "}):
        with pytest.raises(BadInput):
            await runtime.on("*", Gauge(), **{"name": "h", **wrong})
    assert (await runtime.outbox_status()).handlers == ()


async def test_options_of_a_plugins_handler_hold(live: Any) -> None:
    from go_services_core import hookimpl

    sys.modules["made_hanging_handler"] = sys.modules[__name__]

    class Plugin:
        @hookimpl
        def gs_event_handlers(self) -> list[EventHandlerSpec]:
            return [
                EventHandlerSpec(
                    name="made",
                    events="*",
                    handler=Ref("made_hanging_handler:hang"),
                    timeout=0.05,
                    schedule=Schedule(delays=()),
                    concurrency=1,
                )
            ]

    async with live.open(plugins={"made": live.providers, "events": Plugin()}) as runtime:
        await told(runtime, 1)
        await runtime.run_due("outbox")
        (item,) = (await runtime.outbox()).items
        assert (item.status, item.attempts, item.error) == ("dead", 1, "The handler did not end within 0.05 seconds.")
        assert runtime._core.handlers["made"].concurrency == 1


async def hang(event: Event, context: Any) -> None:
    await asyncio.Event().wait()


async def test_shutdown_gives_back_what_is_held_and_counts_no_attempt(live: Any) -> None:
    async with live.open(settings={"worker.concurrency": 2}) as runtime:
        begun = asyncio.Event()

        async def waits(event: Event, context: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        await runtime.on("*", waits, name="h")
        await told(runtime, 5)
        draining = asyncio.create_task(runtime.run_due("outbox"))
        await asyncio.wait_for(begun.wait(), 10)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        rows = live.rows(f"SELECT status, attempts, last_error FROM {TABLE} ORDER BY attempts")
        assert rows == [("pending", 0, "")] * 5
        claimed = await runtime._core.store.queues.claim("outbox", owner="x", lease=60, limit=9, handlers=["h"])
        assert len(claimed) == 5  # at once


async def test_lease_that_is_lost_ends_its_handler_and_settles_nothing(live: Any) -> None:
    """P67: the late settlement is refused."""
    async with live.open(settings={"worker.lease": 0.3}) as runtime:
        begun, ended = asyncio.Event(), []

        async def slow(event: Event, context: Any) -> Any:
            begun.set()
            try:
                await asyncio.sleep(30)
            finally:
                ended.append(event.id)

        await runtime.on("*", slow, name="h")
        await told(runtime, 1)
        running = asyncio.create_task(runtime.run_due("outbox"))
        await asyncio.wait_for(begun.wait(), 10)
        live.rows(f"UPDATE {TABLE} SET owner = 'successor', fence = fence + 1")
        assert await asyncio.wait_for(running, 10) == 0
        assert len(ended) == 1
        assert live.rows(f"SELECT status, owner FROM {TABLE}") == [("processing", "successor")]


async def test_what_only_succeeded_is_settled_in_one_unit(app: Any, runtime: Any, monkeypatch: Any) -> None:
    units = []
    queues = runtime._core.store.queues
    real = queues.settle_many

    async def counted(claims: Any, outcome: Any, **options: Any) -> Any:
        units.append(len(claims))
        return await real(claims, outcome, **options)

    async def single(*args: Any, **options: Any) -> None:
        raise AssertionError("settled alone")

    await runtime.on("*", Gauge(), name="h")
    await told(runtime, 40)
    monkeypatch.setattr(queues, "settle_many", counted)
    monkeypatch.setattr(queues, "settle", single)
    assert await runtime.run_due("outbox", 40) == 40
    assert units == [40]


async def test_effect_with_jobs_events_and_work_commits_once(app: Any, runtime: Any) -> None:
    app.rows(CREATE)

    def work(id: str) -> Any:
        yield from EFFECT(event_id=id)

    async def handler(event: Event, context: Any) -> Handled:
        job = NewJob(id=uuid7(runtime._core.clock), kind=REWRAP, created_at=event.occurred_at)
        more = Event(
            id=uuid7(runtime._core.clock),
            name="other.made",
            provider_id="sandbox",
            scope=event.scope,
            connection_id=None,
            occurred_at=event.occurred_at,
        )
        return Handled(work=partial(work, event.id), events=[more], jobs=[job])

    await runtime.on("test.*", handler, name="h")
    (one,) = await told(runtime, 1)
    assert await runtime.run_due("outbox") == 1
    assert app.rows("SELECT event_id FROM app_effects") == [(one.id,)]
    assert app.rows("SELECT count(*) FROM service_sync_jobs") == [(1,)]
    assert [item.name for item in (await runtime.outbox(event="other.made")).items] == ["other.made"]


async def test_older_state_after_newer_state_has_no_effect(either: Any) -> None:
    """P69."""
    async with either.open() as runtime:
        effects: list[int] = []

        async def handler(event: Event, context: Any) -> Handled:
            def work() -> Any:
                effects.append(event.payload["version"])
                yield from ()

            return Handled(work=work, position=Position(f"order/{event.payload['order']}", event.payload["version"]))

        await runtime.on("test.*", handler, name="h")
        for version in (1, 4, 2, 3, 5, 5):
            await told(runtime, 1, payload={"order": "a", "version": version})
            assert await runtime.run_due("outbox") == 1
        assert effects == [1, 4, 5]
        assert (await states(runtime))["delivered"] == 6


async def test_event_that_cannot_be_read_is_dead_and_its_neighbours_are_handled(app: Any, runtime: Any) -> None:
    """P96."""
    good = Gauge()
    await runtime.on("*", good, name="h")
    events = await told(runtime, 4)
    app.rows("UPDATE service_lifecycle_outbox SET payload = '{broken' WHERE event_id = ?", events[1].id)
    app.rows("UPDATE service_lifecycle_outbox SET occurred_at = 'yesterday' WHERE event_id = ?", events[2].id)
    assert await runtime.run_due("outbox") == 2
    rows = app.rows(f"SELECT event_id, status, last_error FROM {TABLE} WHERE status <> 'delivered' ORDER BY last_error")
    assert rows == [
        (events[1].id, "dead", "The event cannot be read: JSONDecodeError."),
        (events[2].id, "dead", "The event cannot be read: ValueError."),
    ]


async def test_suspects_of_a_crash_run_one_by_one_and_cost_the_others_no_attempt(app: Any, runtime: Any) -> None:
    """P96: what ends its process is set aside after its attempts; those that were claimed with it are not."""
    seen = []

    async def handler(event: Event, context: Any) -> None:
        seen.append(event.id)

    await runtime.on("*", handler, name="h", schedule=Schedule(delays=(1.0, 1.0)))
    queues = runtime._core.store.queues
    poison, *others = sorted(one.id for one in await told(runtime, 5))

    def crash(ids: list[str]) -> None:
        app.rows(f"UPDATE {TABLE} SET next_attempt_at = '2000-01-01 00:00:00.000000' WHERE status = 'processing'")

    assert len(await queues.claim("outbox", owner="crashed", lease=60, limit=9, handlers=["h"])) == 5
    crash([poison, *others])
    # The first of them is held alone: it is due last, so that here the others come before it.
    assert await runtime.run_due("outbox", 9) == 1
    assert seen == [poison]
    assert app.rows(f"SELECT DISTINCT status, attempts, crashes FROM {TABLE} WHERE status <> 'delivered'") == [
        ("retry_ready", 1, 1)
    ]
    app.rows(f"UPDATE {TABLE} SET status = 'processing', attempts = 3, crashes = 3 WHERE event_id = ?", others[0])
    crash([others[0]])
    for _ in range(9):
        await runtime.run_due("outbox", 9)
    assert sorted(seen) == sorted([poison, *others[1:]])
    (item,) = (await runtime.outbox(status="dead")).items
    assert item.id.startswith(others[0])
    assert item.error == "Each process that ran the handler for this event ended before the handler did."


async def test_of_two_operators_one_replays(either: Any) -> None:
    """P73."""
    async with either.open() as runtime:
        runs = []

        async def fails(event: Event, context: Any) -> None:
            runs.append(event.id)
            raise Unrecoverable("no")

        await runtime.on("*", fails, name="h")
        events = await told(runtime, 3)
        await runtime.run_due("outbox")
        dry = await runtime.replay_events(handler="h", dry_run=True)
        assert (dry.found, dry.replayed) == (3, 3)
        assert await states(runtime) == {"dead": 3}
        both = await asyncio.gather(*(runtime.replay_events(everything=True) for _ in range(2)))
        assert sum(one.replayed for one in both) == 3
        assert await runtime.run_due("outbox") == 0
        assert len(runs) == 6
        assert (await runtime.replay_events([events[0].id])).replayed == 1
        assert (await runtime.replay_events([f"{events[1].id}:h"])).replayed == 1
        assert await states(runtime) == {"dead": 1, "pending": 2}
        for wrong in ({}, {"everything": True, "handler": "h"}, {"ids": ["x"], "handler": "h"}):
            with pytest.raises(BadInput):
                await runtime.replay_events(**wrong)
        with pytest.raises(NotFound):
            await runtime.replay_events([events[0].id, "none"])
        with pytest.raises(BadInput):
            await runtime.outbox(status="done")


async def test_delivered_events_run_again_only_when_that_is_said(either: Any) -> None:
    async with either.open() as runtime:
        gauge = Gauge()
        await runtime.on("*", gauge, name="h")
        (one,) = await told(runtime, 1)
        await runtime.run_due("outbox")
        assert (await runtime.replay_events([one.id])).found == 0
        assert (await runtime.replay_events([one.id], again=True)).replayed == 1
        assert await runtime.run_due("outbox") == 1
        assert gauge.runs == 2


async def test_older_events_reach_a_handler_by_a_backfill_alone(either: Any) -> None:
    async with either.open() as runtime:
        await runtime.on("test.*", Gauge(), name="first")
        started = either.clock.now()
        await told(runtime, 3)
        await told(runtime, 1, name="other.thing")
        await runtime.run_due("outbox")
        either.clock.advance(3600)
        late = Gauge()
        await runtime.on("test.*", late, name="late")
        assert await runtime.run_due("outbox") == 0
        with pytest.raises(BadInput):
            await runtime.backfill_handler("late", since=either.clock.now() + timedelta(hours=1))
        with pytest.raises(NotFound):
            await runtime.backfill_handler("none", since=started)
        assert await runtime.backfill_handler("late", since=started, dry_run=True) == 3
        assert late.runs == 0
        assert await runtime.backfill_handler("late", since=started) == 3
        assert await runtime.backfill_handler("late", since=started, dry_run=True) == 0
        assert await runtime.backfill_handler("late", since=started) == 0
        assert await runtime.run_due("outbox") == 3
        assert late.runs == 3


async def test_handler_that_was_removed_is_visible_and_can_be_forgotten(app: Any) -> None:
    async with app.open() as runtime:
        await runtime.on("*", Gauge(), name="gone")
        await told(runtime, 3)
        with pytest.raises(Conflict, match="This process has"):
            await runtime.forget_handler("gone")
    async with app.open() as runtime:
        await runtime.on("*", Gauge(), name="here")
        await runtime.drain()
        status = await runtime.outbox_status()
        assert {one.name: one.pending for one in status.handlers} == {"gone": 3, "here": 0}
        with pytest.raises(Conflict, match="within the last 300 seconds"):
            await runtime.forget_handler("gone")
        app.rows("UPDATE service_event_handlers SET seen_at = '2000-01-01 00:00:00.000000' WHERE name = 'gone'")
        assert await runtime.forget_handler("gone") == 3
        assert app.rows("SELECT count(*) FROM service_pending_events") == [(0,)]
        with pytest.raises(NotFound):
            await runtime.forget_handler("gone")


async def test_process_that_works_says_each_minute_which_handlers_it_has(app: Any, runtime: Any) -> None:
    old = "2000-01-01 00:00:00.000000"
    await runtime.on("*", Gauge(), name="h")
    app.rows("UPDATE service_event_handlers SET seen_at = ?", old)
    await runtime.run_due("outbox")
    assert app.rows("SELECT seen_at FROM service_event_handlers") == [(old,)]
    app.clock.advance(handlers.SEEN_EVERY)
    await runtime.run_due("outbox")
    assert app.rows("SELECT seen_at > '2020' FROM service_event_handlers") == [(1,)]


async def test_events_of_one_key_reach_a_handler_in_order(live: Any) -> None:
    async with live.open() as runtime:
        seen: list[str] = []

        async def handler(event: Event, context: Any) -> None:
            await asyncio.sleep(0.001)
            seen.append(event.id)

        await runtime.on("*", handler, name="h")
        events = await told(runtime, 6, order_key="k")
        while await runtime.run_due("outbox"):
            pass
        assert seen == sorted(one.id for one in events)
