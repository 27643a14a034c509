"""From a subscription to the handler: the sandbox notifies on its channels, and each delivery is verified for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from aiohttp import web
from attrs import define, evolve, field

from go_services_core import Runtime
from go_services_core.errors import StoreUnavailable, WebhookRejected
from go_services_core.http import InboundRequest
from go_services_core.model import Event
from go_services_core.runtime import due, jobs
from go_services_core.webhooks.vendors import GOOGLE_CHANNEL

from .conftest import App, QuietClock
from .subscribing import RENEW, live


@define
class Hooks:
    """A server at the callback URL, which hands each delivery to the runtime as an application does."""

    runtime: Runtime
    url: str = ""
    came: list[InboundRequest] = field(factory=list)

    async def take(self, request: web.Request) -> web.Response:
        headers = tuple(request.headers.items())
        came = InboundRequest(request.method, request.raw_path, headers, await request.read())
        self.came.append(came)
        try:
            await self.runtime.accept_webhook("sandbox", came)
        except WebhookRejected:
            return web.Response(status=401)
        return web.Response(status=202)

    def events(self) -> list[str | None]:
        return [one.header("X-Goog-Resource-State") for one in self.came]


@asynccontextmanager
async def hooks(runtime: Runtime) -> AsyncIterator[Hooks]:
    made = Hooks(runtime)
    application = web.Application()
    application.router.add_post("/hooks", made.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening(app: App) -> AsyncIterator[tuple[Runtime, Hooks, list[Event]]]:
    """A runtime whose provider signs as Google's channels do, its server, and what its handler gets."""
    app.set(webhook=GOOGLE_CHANNEL)
    got: list[Event] = []

    async def handler(event: Event, context: Any) -> None:
        got.append(event)

    async with app.open() as runtime, hooks(runtime) as server:
        await runtime.on("webhook.*", handler, name="h")
        yield runtime, server, got


async def test_notification_is_verified_by_its_channel_and_reaches_the_handler(either: App, clock: QuietClock) -> None:
    """The URL names no connection: the channel alone brings it and the token, also before the provider answered."""
    either.sandbox.announce = True
    async with listening(either) as (runtime, server, got):
        made = {}
        for who in ("u1", "u2"):
            connection = await either.connect(runtime, who)
            row = await runtime.subscribe(connection.id, "items", "1", callback_url=server.url)
            made[row.channel_id] = row
        assert await either.sandbox.notify("1") == [202, 202]
        assert server.events() == ["sync", "sync", "update", "update"]
        heard = clock.now()
        clock.advance(5)
        assert (await runtime.drain()).deliveries == 4
        expected = [(id, row.connection_id, name) for id, row in made.items() for name in ("sync", "update")]
        assert sorted((one.payload["channel"], one.connection_id, one.payload["event"]) for one in got) == sorted(
            expected
        )
        for row in made.values():
            assert (await runtime.subscription(row.id)).last_notified_at == heard


async def test_delivery_with_another_token_or_of_an_ended_channel_is_rejected(either: App) -> None:
    async with listening(either) as (runtime, server, got):
        connection = await either.connect(runtime)
        made = await runtime.subscribe(connection.id, "items", "1", callback_url=server.url)
        (channel,) = live(either)
        token, channel.token = channel.token, either.sandbox.webhook_secret.reveal()
        assert await either.sandbox.notify("1") == [401]  # the provider's own secret is not the channel's
        channel.token = token
        assert await either.sandbox.notify("1") == [202]
        await runtime.drain()
        assert len(got) == 1
        late = evolve(server.came[-1], headers=(*server.came[-1].headers, ("X-Late", "1")))
        assert (await runtime.accept_webhook("sandbox", late)).duplicate
        await runtime.cancel_subscription(made.id)
        with pytest.raises(WebhookRejected):
            await runtime.accept_webhook("sandbox", late)


async def test_replacement_is_heard_beside_the_old_channel(either: App, clock: QuietClock) -> None:
    """Both are live for the overlap, and each is verified with its own token."""
    async with listening(either) as (runtime, server, got):
        connection = await either.connect(runtime)
        old = await runtime.subscribe(connection.id, "items", "1", callback_url=server.url)
        new = await runtime.renew_subscription(old.id)
        assert await either.sandbox.notify("1") == [202, 202]
        await runtime.run_due("inbox")
        await runtime.run_due("outbox")
        assert {one.payload["channel"] for one in got} == {old.channel_id, new.channel_id}
        clock.advance(120)
        assert await runtime.run_due(RENEW) == 1
        assert await either.sandbox.notify("1") == [202]
        assert server.came[-1].header("X-Goog-Channel-ID") == new.channel_id


async def test_times_of_a_batch_are_one_statement_which_may_fail(
    either: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a channel the latest counts. What cannot be told holds nothing up."""
    async with listening(either) as (runtime, server, got):
        connection = await either.connect(runtime)
        made = await runtime.subscribe(connection.id, "items", "1", callback_url=server.url)
        resources = runtime._core.store.resources
        told: list[Mapping[tuple[str, str], datetime]] = []
        notified = resources.notified

        async def failing(moments: Mapping[tuple[str, str], datetime]) -> None:
            told.append(moments)
            if len(told) == 1:
                raise StoreUnavailable("The database is away.")
            await notified(moments)

        monkeypatch.setattr(resources, "notified", failing)
        first = runtime._core.clock.now()
        for _ in range(3):
            assert await either.sandbox.notify("1") == [202]
        assert await runtime.run_due("inbox") == 3
        assert told == [{("sandbox", made.channel_id): first}]
        assert "last heard of" in caplog.text
        either.clock.advance(60)
        assert await either.sandbox.notify("1") == [202]
        assert (await runtime.subscription(made.id)).last_notified_at is None  # not in the path that answers
        assert await runtime.run_due("inbox") == 1
        assert (await runtime.subscription(made.id)).last_notified_at == runtime._core.clock.now()
        await runtime.run_due("outbox")
        assert len(got) == 4


def test_worker_has_a_loop_for_subscriptions() -> None:
    assert RENEW in due.KINDS
    assert due.POLLS[RENEW] > 1
    assert "subscriptions.cancel" in due.KINDS.keys() & jobs.JOBS.keys()
