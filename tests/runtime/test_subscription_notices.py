"""What providers do with subscriptions by themselves: say that they missed something, drop one, answer early, mix up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from attrs import evolve

from go_services_core import Runtime
from go_services_core.catalog import provider_fault
from go_services_core.clock import uuid7
from go_services_core.errors import Conflict
from go_services_core.model import Event
from go_services_core.protocols import ProviderAdapter
from go_services_core.refs import Ref
from go_services_core.resources import Subscription
from go_services_core.subscription_specs import SubscriptionAnswer, SubscriptionRequest

from .conftest import App, QuietClock
from .subscribing import CALLBACK, LIVES, RENEW, live, names, subscribed, token, told


def lifecycle(app: App) -> None:
    """The sandbox's subscriptions with notices as Microsoft Graph's."""
    channels, folder = app.providers.specs["sandbox"].subscriptions
    app.set(subscriptions=(channels, evolve(folder, missed=("missed",), removed=("subscriptionRemoved",))))


async def hear(runtime: Runtime, name: str, row: Subscription, **payload: Any) -> None:
    """A webhook that came on the row's channel, as the inbox hands it on."""
    connection = await runtime.connection(row.connection_id)
    event = Event(
        id=uuid7(runtime._core.clock),
        name=f"webhook.{name}",
        provider_id="sandbox",
        scope=connection.scope,
        connection_id=connection.id,
        occurred_at=runtime._core.clock.now(),
        payload={"channel": row.channel_id, **payload},
    )
    await runtime._core.store.resources.save_subscriptions([], events=[event])
    await runtime.run_due("outbox")


async def test_missed_triggers_backfill(either: App, clock: QuietClock) -> None:
    """P70. The notice itself is the last that came, so that the gap begins with the last confirmation."""
    lifecycle(either)
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        assert names(await told(runtime)) == ["created"]
        clock.advance(3600)
        await runtime._core.store.resources.notified({("sandbox", made.channel_id): clock.now()})
        await hear(runtime, "missed", made)
        await hear(runtime, "missed", made, channel="another")
        (gap,) = [event for event in await told(runtime) if event.name == "subscription.gap"]
        assert gap.payload["subscription_id"] == made.id
        assert (gap.payload["since"], gap.payload["reason"]) == (
            (made.confirmed_at or clock.now()).isoformat(),
            "missed",
        )
        assert await runtime._core.store.queues.job(gap.payload["job_id"]) is not None


async def test_subscription_that_the_provider_says_it_removed_is_made_anew(either: App, clock: QuietClock) -> None:
    lifecycle(either)
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        assert names(await told(runtime)) == ["created"]
        either.sandbox.channels.ended.add(made.channel_id)
        clock.advance(60)
        await hear(runtime, "subscriptionRemoved", made)
        assert (await runtime.subscription(made.id)).status == "errored"
        assert await runtime.run_due(RENEW) == 1
        assert len(live(either)) == 1
        assert sorted(names(await told(runtime))) == ["cancelled", "gap", "recreated", "renewal_failed"]


async def test_dropped_subscription_that_cannot_be_made_anew_is_errored(either: App, clock: QuietClock) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        either.sandbox.channels.ended.add(made.channel_id)
        either.sandbox.faults.set("subscriptions.create", "500", times=None)
        clock.advance(LIVES["folder"].total_seconds() * 0.82)
        assert await runtime.run_due(RENEW) == 0
        assert (await runtime.subscription(made.id)).status == "errored"
        either.sandbox.faults.clear()
        clock.advance(3600)
        asked = either.sandbox.requests["subscriptions.renew"]
        assert await runtime.run_due(RENEW) == 1
        assert either.sandbox.requests["subscriptions.renew"] == asked
        assert len(live(either)) == 1


async def test_live_channel_stays_active_while_its_successor_is_refused(either: App, clock: QuietClock) -> None:
    """A 404 of the operation that makes a channel says nothing of the one that there is."""
    channels, folder = either.providers.specs["sandbox"].subscriptions
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "items")
    either.set(subscriptions=(evolve(channels, create="items.get", send={"channel": "id"}), folder))
    async with either.open() as runtime:
        clock.advance(LIVES["items"].total_seconds() * 0.82)
        assert await runtime.run_due(RENEW) == 0
        assert (await runtime.subscription(made.id)).status == "active"


@asynccontextmanager
async def target(seen: list[Any], find: Any) -> AsyncIterator[str]:
    """A server at a subscription's callback URL, which looks its channel up as the inbox does."""

    async def answer(request: web.Request) -> web.Response:
        row = await find("sandbox", request.headers["X-Goog-Channel-ID"])
        seen.append((request.headers["X-Goog-Resource-State"], request.headers["X-Goog-Channel-Token"], row))
        return web.Response()

    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_notification_before_the_answer_finds_its_channel_and_token(app: App) -> None:
    """Google sends `sync` on a new channel, which may overtake the answer to its creation."""
    app.sandbox.announce = True
    seen: list[Any] = []
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        async with target(seen, runtime._core.store.resources.subscription_by_channel) as url:
            made = await runtime.subscribe(connection.id, "items", "1", callback_url=url)
            assert await app.sandbox.notify("1") == [200]
    (sync, _, early), (update, given, row) = seen
    assert (sync, update) == ("sync", "update")
    assert early.confirmed_at is None
    assert early.connection_id == connection.id
    async with app.open() as runtime:
        assert {await token(runtime, one) for one in (early, row, made)} == {given}


class Mixing(ProviderAdapter):
    """A vendor that gives everybody the same channel."""

    def subscription_answer(self, request: SubscriptionRequest, data: Any) -> SubscriptionAnswer | None:
        return SubscriptionAnswer(remote_id=data["id"], channel_id="everybody's")


async def test_channel_that_the_provider_gave_to_another_tenant_is_not_taken(
    either: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it ended there: it is the other tenant's."""
    monkeypatch.setitem(sys.modules, "made_mixing", sys.modules[__name__])
    either.set(adapter=Ref("made_mixing:Mixing"))
    async with either.open() as runtime:
        first = await subscribed(either, runtime, "folder")
        assert first.channel_id == "everybody's"
        other = await either.connect(runtime, "u2")
        with pytest.raises(Conflict):
            await runtime.subscribe(other.id, "folder", "1", callback_url=CALLBACK)
        (left,) = (await runtime.subscriptions(connection_id=other.id)).items
        assert (left.status, left.verification) == ("cancelled", None)
        assert either.sandbox.requests["subscriptions.end"] == 0
        assert await runtime._core.store.resources.subscription_by_channel("sandbox", "everybody's") == first


class Own(ProviderAdapter):
    """A vendor that wants another name and tells of no end."""

    def subscription_params(self, request: SubscriptionRequest) -> dict[str, Any] | None:
        if request.action != "create":
            return None
        assert request.token is not None
        return {
            "notificationUrl": request.callback_url,
            "resource": f"own/{request.resource_id}",
            "expirationDateTime": "2100-01-01T00:00:00Z",
            "clientState": request.token.reveal(),
        }

    def subscription_answer(self, request: SubscriptionRequest, data: Any) -> SubscriptionAnswer | None:
        return SubscriptionAnswer(remote_id=data["id"], channel_id=data["id"])


async def test_adapter_shapes_what_a_record_cannot(either: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_own", sys.modules[__name__])
    either.set(adapter=Ref("made_own:Own"))
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        (channel,) = live(either)
        assert (channel.resource, made.channel_id) == ("own/1", channel.id)
        assert (made.expires_at, made.renew_at) == (None, None)  # without an end nothing is renewed
        assert (await runtime.cancel_subscription(made.id)).status == "cancelled"
        assert live(either) == []


async def test_record_that_needs_operations_that_are_not_there_is_a_fault(app: App) -> None:
    spec = app.providers.specs["sandbox"]
    channels, folder = spec.subscriptions
    async with app.open() as runtime:
        catalog = runtime._core.catalog
        assert provider_fault(spec, catalog) is None
        for field in ("create", "renew", "cancel"):
            fault = provider_fault(evolve(spec, subscriptions=evolve(folder, **{field: "nothing"})), catalog)
            assert fault == "subscriptions to 'folder' need the operation 'nothing', which it does not have"
        twice = provider_fault(evolve(spec, subscriptions=(channels, channels)), catalog)
        assert twice is not None
        assert "occurs twice" in twice


async def test_drain_keeps_subscriptions_alive(either: App, clock: QuietClock) -> None:
    async with either.open() as runtime:
        await subscribed(either, runtime, "folder")
        clock.advance(timedelta(days=2, hours=12).total_seconds())
        assert (await runtime.drain()).renewals >= 1
        assert live(either)[0].expires_at == (clock.now() + LIVES["folder"]).timestamp()


async def test_run_leaves_a_provider_alone_that_fails_again_and_again(app: App, clock: QuietClock) -> None:
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for number in range(20):
            await runtime.subscribe(connection.id, "folder", str(number), callback_url=CALLBACK)
        clock.advance(LIVES["folder"].total_seconds() * 0.82)
        app.sandbox.faults.set("subscriptions.renew", "500", times=None)
        assert await runtime.run_due(RENEW, 1000) == 0
        tried = [one for one in (await runtime.subscriptions()).items if one.attempts]
        assert 5 <= len(tried) < 10


async def test_two_runs_at_once_renew_each_subscription_once(app: App, clock: QuietClock) -> None:
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for number in range(10):
            await runtime.subscribe(connection.id, "folder", str(number), callback_url=CALLBACK)
        clock.advance(LIVES["folder"].total_seconds() * 0.82)
        done = await asyncio.gather(*(runtime.run_due(RENEW, 1000) for _ in range(3)))
        assert sum(done) == app.sandbox.requests["subscriptions.renew"] == 10
