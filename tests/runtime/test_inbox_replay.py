"""Having deliveries handled once more."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from go_services_core.delivery_specs import Burst
from go_services_core.errors import BadInput, NotFound

from .inbox_tokens import collector, sent, with_tokens


async def broken_deliveries(app, runtime, number=2, handlers=("a", "b")):
    """Deliveries that ``a`` handled and that are dead at ``b``; the calls."""
    calls = []

    def make(name):
        async def handler(event, context):
            calls.append((name, event.id))

        return handler

    for name in handlers:
        await runtime.on("webhook.*", make(name), name=name)
    ids = [
        (await runtime.accept_webhook("sandbox", sent("of-the-provider", str(n), Event=f"e{n}"))).id
        for n in range(number)
    ]
    await runtime.run_due("inbox")
    queues = runtime._core.store.queues
    for claim in await queues.claim("outbox", owner="x", lease=60, limit=100, handlers=handlers):
        await queues.settle(claim, "dead" if claim.handler == "b" else "done")
    return ids, calls


async def test_replay_is_of_dead_handlers_alone_and_each_gets_it_once(either):
    async with with_tokens(either).open() as runtime:
        ids, calls = await broken_deliveries(either, runtime)
        assert [one.id for one in (await runtime.deliveries(dead=True)).items] == sorted(ids)
        seen = await runtime.replay(dry_run=True)
        assert (seen.seen, seen.handlers, seen.deliveries) == (2, 2, 0)
        await runtime.drain()
        assert calls == []
        one = await runtime.replay(ids[0])
        assert (one.seen, one.handlers) == (1, 1)
        told = []
        rest = await runtime.replay(provider_id="sandbox", progress=told.append)
        assert (rest.seen, rest.handlers, told) == (1, 1, [rest])
        await runtime.drain()
        assert sorted(calls) == sorted(("b", id) for id in ids)
        assert (await runtime.replay()).seen == 0


async def test_two_operators_cause_one_replay(either):
    """P73."""
    async with with_tokens(either).open() as runtime:
        ids, calls = await broken_deliveries(either, runtime)
        both = await asyncio.gather(*(runtime.replay(ids[0]) for _ in range(5)))
        assert sum(done.handlers for done in both) == 1
        await runtime.drain()
        assert calls == [("b", ids[0])]
        assert (await runtime.replay(ids[0])).handlers == 0


async def test_what_was_handled_is_replayed_on_demand_only(either):
    async with with_tokens(either).open() as runtime:
        ids, calls = await broken_deliveries(either, runtime)
        again = await runtime.replay(ids[0], again=True, handler="a")
        assert (again.handlers, again.deliveries) == (1, 0)
        await runtime.drain()
        assert calls == [("a", ids[0])]
        everything = await runtime.replay(event="e0", again=True)
        assert everything.handlers == 2
        await runtime.drain()
        assert sorted(calls) == [("a", ids[0]), ("a", ids[0]), ("b", ids[0])]


async def test_superseded_and_dead_deliveries_are_passed_on_by_a_replay(app):
    async with with_tokens(app, burst=Burst(mode="debounce", window=0.05)).open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        ids = []
        for number in range(2):
            app.clock.advance(0.001)
            request = sent("of-the-provider", str(number), f"{number}".encode(), Resource="r")
            ids.append((await runtime.accept_webhook("sandbox", request)).id)
        await asyncio.sleep(0.1)
        await runtime.drain()
        assert (await runtime.replay(ids[0])).deliveries == 0
        assert (await runtime.replay(ids[0], again=True)).deliveries == 1
        await runtime.drain()
        assert [body for _, body in got] == [b"1", b"0"]


async def test_replay_of_a_time_range_and_of_wrong_input(either):
    async with with_tokens(either).open() as runtime:
        ids, _ = await broken_deliveries(either, runtime)
        now = either.clock.now()
        assert (await runtime.replay(since=now + timedelta(seconds=1))).seen == 0
        assert (await runtime.replay(since=now, until=now + timedelta(seconds=1), dry_run=True)).seen == 2
        with pytest.raises(BadInput, match="time zone"):
            await runtime.replay(since=datetime(2026, 1, 1))
        with pytest.raises(BadInput, match="one delivery or"):
            await runtime.replay(ids[0], provider_id="sandbox")
        for call in (runtime.delivery, runtime.replay, runtime.delivery_request, runtime.release_delivery):
            with pytest.raises(NotFound):
                await call("nobody")


async def test_quarantined_delivery_is_released_or_dropped_once(either):
    """Protocols, Inbox 2."""
    async with with_tokens(either).open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        await runtime.accept_webhook("sandbox", sent("of-the-provider", body=b"first"))
        await runtime.drain()
        other = await runtime.accept_webhook("sandbox", sent("of-the-provider", body=b"other"))
        third = await runtime.accept_webhook("sandbox", sent("of-the-provider", body=b"third"))
        assert (await runtime.delivery_request(other.id)).body == b"other"
        assert await runtime.release_delivery(other.id, dry_run=True)
        assert await runtime.release_delivery(other.id)
        assert not await runtime.release_delivery(other.id)
        assert await runtime.drop_delivery(third.id)
        assert not await runtime.release_delivery(third.id)
        await runtime.drain()
        assert [body for _, body in got] == [b"first", b"other"]
        statuses = {one.status for one in (await runtime.deliveries()).items}
        assert statuses == {"processed", "dropped"}
