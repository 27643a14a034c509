"""Events and their durable handlers: each change writes its event, each handler gets it once in effect."""

from __future__ import annotations

import asyncio
import sys
from functools import partial

import pytest

from go_services_core import EventHandlerSpec, Ref, hookimpl
from go_services_core.errors import BadInput, NotFound
from go_services_core.model import Drained
from go_services_store_sql.statement import Statement

SEEN: list[str] = []


@pytest.fixture(autouse=True)
def long_lived(sandbox):
    """Tokens that outlive every test: a renewal ahead of time would be one more event."""
    sandbox.access_token_lifetime = 365 * 86400.0


async def from_plugin(event, context):
    SEEN.append(event.name)


class Plugin:
    """A plugin whose handler is this module's function."""

    @hookimpl
    def gs_event_handlers(self):
        sys.modules["made_event_handlers"] = sys.modules[__name__]
        handler = Ref("made_event_handlers:from_plugin")
        return [EventHandlerSpec(name="made", events="connection.*", handler=handler)]


def collector():
    seen = []

    async def handler(event, context):
        seen.append(event.name)

    return seen, handler


def make_due(app):
    """Let the time of retries and leases pass, on the database's clock and on the memory store's."""
    app.clock.advance(100_000)
    if app.store is None:
        for table in ("service_event_deliveries", "service_webhook_deliveries"):
            app.rows(f"UPDATE {table} SET next_attempt_at = '2000-01-01 00:00:00.000000' WHERE next_attempt_at > ''")


async def test_every_change_writes_its_event_and_handlers_get_them(either):
    async with either.open() as runtime:
        seen, handler = collector()
        await runtime.on("*", handler, name="all")
        connection = await either.connect(runtime)
        await runtime.refresh(connection.id)
        await runtime.disconnect(connection.id)
        assert seen == []  # nothing runs before drain
        assert await runtime.drain() == Drained(events=4)
        assert sorted(seen) == [
            "connection.disconnected",
            "connection.established",
            "credential.refreshed",
            "grant.expanded",
        ]
        assert await runtime.drain() == Drained()


async def test_event_tells_what_happened_and_holds_no_secret(app, runtime):
    got = []

    async def handler(event, context):
        got.append(event)
        with pytest.raises(NotFound):
            await context.request()

    await runtime.on("connection.established", handler, name="h")
    connection = await app.connect(runtime)
    await runtime.drain()
    (event,) = got
    assert (event.provider_id, event.connection_id, event.scope) == ("sandbox", connection.id, connection.scope)
    assert event.occurred_at == app.clock.now()
    assert event.payload == {"external_account_id": "1001", "auth_kind": "oauth2_auth_code", "version": 1}
    for (text,) in app.rows("SELECT payload || metadata FROM service_lifecycle_outbox"):
        assert not [secret for secret in app.sandbox.issued_secrets() if secret in text]


async def test_handlers_of_plugins_get_events_from_the_first_one_on(either):
    SEEN.clear()
    async with either.open(plugins={"made": either.providers, "events": Plugin()}) as runtime:
        connection = await either.connect(runtime)
        await runtime.refresh(connection.id)
        await runtime.drain()
    assert SEEN == ["connection.established"]


async def test_pattern_chooses_the_events(app, runtime):
    exact, on_exact = collector()
    none, on_none = collector()
    await runtime.on("credential.refreshed", on_exact, name="exact")
    await runtime.on("webhook.*", on_none, name="none")
    connection = await app.connect(runtime)
    await runtime.refresh(connection.id)
    await runtime.drain()
    assert (exact, none) == (["credential.refreshed"], [])


async def test_events_from_before_a_handler_do_not_reach_it(either):
    async with either.open() as runtime:
        await either.connect(runtime)
        either.clock.advance(1)
        seen, handler = collector()
        await runtime.on("c*", handler, name="late")
        await runtime.drain()
        assert seen == []


async def test_events_while_nobody_ran_reach_a_known_handler_after_a_restart(app):
    async with app.open() as runtime:
        _, handler = collector()
        await runtime.on("c*", handler, name="known")
        await app.connect(runtime)
    app.clock.advance(3600)
    async with app.open() as runtime:
        seen, handler = collector()
        await runtime.on("c*", handler, name="known")
        await runtime.drain()
        await runtime.drain()
    assert seen == ["connection.established"]


async def test_failing_handler_is_tried_again_later_and_others_are_not(either):
    async with either.open() as runtime:
        tries = []
        good, on_good = collector()

        async def failing(event, context):
            tries.append(event.id)
            if len(tries) < 3:
                raise RuntimeError("secret detail")

        await runtime.on("c*", failing, name="failing")
        await runtime.on("c*", on_good, name="good")
        await either.connect(runtime)
        assert await runtime.drain() == Drained(events=1, failed=1)
        assert await runtime.drain() == Drained()  # not due yet
        (item,) = (await runtime._core.store.queues.list("outbox", status="retry_ready")).items
        assert (item.handler, item.attempts, item.error) == ("failing", 1, "RuntimeError")
        make_due(either)
        assert await runtime.drain() == Drained(failed=1)
        make_due(either)
        assert await runtime.drain() == Drained(events=1)
        assert (len(tries), len(set(tries)), good) == (3, 1, ["connection.established"])


async def test_handler_that_never_succeeds_is_set_aside_and_can_be_requeued(either):
    """P96."""
    async with either.open() as runtime:
        tries = []

        async def failing(event, context):
            tries.append(event.id)
            raise BadInput("This event cannot be handled.")

        await runtime.on("c*", failing, name="failing")
        await either.connect(runtime)
        for _ in range(12):
            await runtime.drain()
            make_due(either)
        assert len(tries) == 10
        queues = runtime._core.store.queues
        (item,) = (await queues.list("outbox", status="dead")).items
        assert item.error == "This event cannot be handled."
        assert await queues.requeue("outbox", item.id)
        await runtime.drain()
        assert len(tries) == 11


async def test_event_of_a_cancelled_handler_is_given_back_at_once(live):
    async with live.open() as runtime:
        began, seen = asyncio.Event(), []

        async def slow(event, context):
            began.set()
            if not seen:
                seen.append("cancelled")
                await asyncio.sleep(60)
            seen.append(event.name)

        await runtime.on("c*", slow, name="slow")
        await live.connect(runtime)
        draining = asyncio.create_task(runtime.drain())
        await began.wait()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert live.rows("SELECT status, attempts, owner FROM service_event_deliveries") == [("pending", 0, None)]
        assert await runtime.drain() == Drained(events=1)
        assert seen == ["cancelled", "connection.established"]


async def test_two_runtimes_that_drain_at_once_handle_each_event_once(live):
    seen = []

    async def handler(event, context):
        await asyncio.sleep(0.001)
        seen.append(event.id)

    async with live.open() as one, live.open() as two:
        for runtime in (one, two):
            await runtime.on("c*", handler, name="shared")
        connection = await live.connect(one)
        for _ in range(10):
            await one.refresh(connection.id)
        drained = await asyncio.gather(*(runtime.drain() for runtime in (one, two, one, two)))
    assert len(seen) == len(set(seen)) == 11
    assert sum(result.events for result in drained) == 11


async def test_dead_worker_is_taken_over_when_its_lease_ends(app):
    """P66, P90."""
    async with app.open() as runtime:
        seen, handler = collector()
        await runtime.on("c*", handler, name="h")
        await app.connect(runtime)
        queues = runtime._core.store.queues
        (held,) = await queues.claim("outbox", owner="dead", lease=60, limit=5, handlers=["h"])
        assert await runtime.drain() == Drained()
        make_due(app)
        assert await runtime.drain() == Drained(events=1)
        with pytest.raises(Exception, match="lease"):
            await queues.settle(held, "done")
        assert seen == ["connection.established"]


async def test_work_runs_when_its_event_is_settled_and_not_before(either):
    async with either.open() as runtime:
        order = []

        async def handler(event, context):
            def work():
                order.append("work")
                yield from ()

            order.append("handler")
            return work

        await runtime.on("c*", handler, name="h")
        await either.connect(runtime)
        assert await runtime.drain() == Drained(events=1)
        assert await runtime.drain() == Drained()
        assert order == ["handler", "work"]


CREATE = "CREATE TABLE IF NOT EXISTS app_effects (event_id TEXT PRIMARY KEY)"
EFFECT = Statement("INSERT INTO app_effects (event_id) VALUES (:event_id)")


def effect(event_id):
    yield from EFFECT(event_id=event_id)


async def test_work_of_a_handler_commits_with_its_settlement(app, runtime):
    app.rows(CREATE)

    async def handler(event, context):
        return partial(effect, event.id)

    await runtime.on("c*", handler, name="h")
    await app.connect(runtime)
    await runtime.drain()
    await runtime.drain()
    assert app.rows("SELECT count(*) FROM app_effects") == [(1,)]
    assert app.rows("SELECT status FROM service_event_deliveries") == [("delivered",)]


async def test_work_that_fails_leaves_neither_effect_nor_settlement(app, runtime):
    app.rows(CREATE)
    app.rows("CREATE TABLE app_twice (n INTEGER PRIMARY KEY)")

    async def handler(event, context):
        def work():
            yield from EFFECT(event_id=event.id)
            yield from Statement("INSERT INTO app_missing VALUES (1)")()

        return work

    await runtime.on("c*", handler, name="h")
    await app.connect(runtime)
    assert await runtime.drain() == Drained(failed=1)
    assert app.rows("SELECT count(*) FROM app_effects") == [(0,)]
    assert app.rows("SELECT status, attempts FROM service_event_deliveries") == [("retry_ready", 1)]


async def test_work_of_a_holder_that_lost_its_lease_has_no_effect(app, runtime):
    """Principle: a holder that lost its lease can neither complete nor overwrite."""
    app.rows(CREATE)

    async def handler(event, context):
        make_due(app)
        queues = runtime._core.store.queues
        await queues.claim("outbox", owner="successor", lease=60, limit=5, handlers=["h"])
        return partial(effect, event.id)

    await runtime.on("c*", handler, name="h")
    await app.connect(runtime)
    assert await runtime.drain() == Drained(failed=1)
    assert app.rows("SELECT count(*) FROM app_effects") == [(0,)]
    assert app.rows("SELECT status, owner FROM service_event_deliveries") == [("processing", "successor")]


async def test_handler_that_is_slower_than_its_lease_does_not_run_twice(live):
    """P67."""
    seen = []

    async def slow(event, context):
        seen.append(event.id)
        await asyncio.sleep(0.7)

    short = {"worker.lease": 0.4}
    async with live.open(settings=short) as one, live.open(settings=short) as two:
        for runtime in (one, two):
            await runtime.on("c*", slow, name="slow")
        await live.connect(one)
        draining = asyncio.create_task(one.drain())
        await asyncio.sleep(0.5)
        assert await two.drain() == Drained()
        assert await draining == Drained(events=1)
    assert len(seen) == 1


async def test_work_of_one_kind_can_be_run_alone(app, runtime):
    seen, handler = collector()
    await runtime.on("c*", handler, name="h")
    connection = await app.connect(runtime)
    for _ in range(4):
        await runtime.refresh(connection.id)
    assert await runtime.run_due("inbox") == 0
    assert await runtime.run_due("outbox", limit=2) == 2
    assert await runtime.run_due("outbox") == 3
    assert len(seen) == 5
    with pytest.raises(BadInput, match="inbox, outbox"):
        await runtime.run_due("outbx")
