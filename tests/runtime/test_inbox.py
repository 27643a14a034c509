"""The inbox: whose a delivery is, in which order and how often it is handled."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession, web
from attrs import evolve

from go_services_core import InboundRequest
from go_services_core.clock import SystemClock, uuid7
from go_services_core.delivery_specs import Burst, InboxPolicy, Schedule
from go_services_core.errors import (
    BackendUnavailable,
    BadInput,
    ConfigError,
    Conflict,
    KeyNotFound,
    ProviderNotFound,
    WebhookRejected,
    WebhookTooLarge,
)
from go_services_core.model import Drained
from go_services_core.protocols import Verified
from go_services_core.resources import HISTORY, KEPT_AT_LEAST
from go_services_core.runtime import inbound
from go_services_core.runtime.inbox import event_of
from go_services_core.testing.sandbox.webhooks import send

from .inbox_tokens import TokenVerifier, collector, sent, subscribed, with_tokens
from .member import Remote


@pytest.fixture(autouse=True)
def long_lived(sandbox):
    """Tokens that outlive every test: a renewal ahead of time would be one more event."""
    sandbox.access_token_lifetime = 365 * 86400.0


# --- whose it is ---------------------------------------------------------------------------------------------------


async def test_channel_brings_connection_and_token_before_anything_is_verified(either):
    """Protocols, Inbox 1; behaviour §27.11: equal numbers on two channels are two deliveries."""
    async with with_tokens(either).open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        first, second = await either.connect(runtime), await either.connect(runtime, "u2")
        await subscribed(runtime, first, "chan-1", "token-1")
        await subscribed(runtime, second, "chan-2", "token-2")
        for channel, token in (("chan-1", "token-1"), ("chan-2", "token-2")):
            accepted = await runtime.accept_webhook("sandbox", sent(token, Channel=channel))
            assert not accepted.duplicate
        await runtime.drain()
        assert sorted((event.connection_id, event.payload["channel"]) for event, _ in got) == sorted(
            [(first.id, "chan-1"), (second.id, "chan-2")]
        )


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"token": "of-the-provider", "Channel": "nobody's"}, "no subscription"),
        ({"token": "token-3", "Channel": "cancelled"}, "no subscription"),
        ({"token": "token-2", "Channel": "chan-1"}, "token is wrong"),
        ({"token": "of-the-provider", "Channel": "chan-1"}, "token is wrong"),
    ],
    ids=["unknown", "cancelled", "another's token", "the provider's token"],
)
async def test_channel_that_nobody_has_or_with_another_token_is_rejected(app, headers, why):
    async with with_tokens(app).open() as runtime:
        connection, other = await app.connect(runtime), await app.connect(runtime, "u2")
        await subscribed(runtime, connection, "chan-1", "token-1")
        await subscribed(runtime, other, "chan-2", "token-2")
        await subscribed(runtime, connection, "cancelled", "token-3", status="cancelled")
        with pytest.raises(WebhookRejected, match=why) as rejected:
            await runtime.accept_webhook("sandbox", sent(**headers))
        assert "token-" not in str(rejected.value)
        assert (await runtime.deliveries()).items == ()


async def test_channel_of_another_connection_than_the_urls_is_rejected(app):
    async with with_tokens(app).open() as runtime:
        connection, other = await app.connect(runtime), await app.connect(runtime, "u2")
        await subscribed(runtime, connection, "chan-1", "token-1")
        request = sent("token-1", Channel="chan-1")
        with pytest.raises(WebhookRejected, match="another connection"):
            await runtime.accept_webhook("sandbox", request, connection_id=other.id)
        accepted = await runtime.accept_webhook("sandbox", request, connection_id=connection.id)
        assert (await runtime.delivery(accepted.id)).connection_id == connection.id


async def test_url_of_a_connection_takes_its_own_tokens_and_the_providers(app):
    async with with_tokens(app).open() as runtime:
        connection, other = await app.connect(runtime), await app.connect(runtime, "u2")
        await subscribed(runtime, connection, "one", "token-1")
        await subscribed(runtime, connection, "old", "token-0", status="expired")
        await subscribed(runtime, other, "two", "token-2")
        for token in ("token-1", "of-the-provider"):
            await runtime.accept_webhook("sandbox", sent(token, id=token), connection_id=connection.id)
        for token in ("token-0", "token-2", ""):
            with pytest.raises(WebhookRejected):
                await runtime.accept_webhook("sandbox", sent(token, id="x"), connection_id=connection.id)


async def test_as_much_work_is_done_for_what_nobody_receives_as_for_a_wrong_signature(app, monkeypatch):
    """Else the time that an answer takes tells a stranger which connections there are."""
    verified = 0
    verify = TokenVerifier.verify

    def counted(self, request, *, secrets, now):
        nonlocal verified
        assert len(secrets) == 1
        verified += 1
        return verify(self, request, secrets=secrets, now=now)

    async with with_tokens(app).open() as runtime:
        connection, ended = await app.connect(runtime), await app.connect(runtime, "u2")
        await runtime.disconnect(ended.id, reason="over")
        monkeypatch.setattr(TokenVerifier, "verify", counted)
        store, costs = runtime._core.store, {}
        for provider_id, id in (("sandbox", connection.id), ("sandbox", "nobody"), ("sandbox", ended.id), ("x", "x")):
            statements, before = [], verified
            store.trace(lambda text, seen=statements: seen.append(text.partition("WHERE")[0]))
            with pytest.raises((WebhookRejected, ProviderNotFound)):
                await runtime.accept_webhook(provider_id, sent("wrong"), connection_id=id)
            costs[id] = (verified - before, statements)
        store.trace(None)
    known = costs[connection.id]
    assert known[0] == 1
    assert costs == {connection.id: known, "nobody": known, ended.id: known, "x": (0, known[1])}


async def test_scheme_is_run_in_vain_where_no_secret_is_set_and_cannot_accept(app, monkeypatch):
    runs = []
    verify = TokenVerifier.verify

    def counted(self, request, *, secrets, now):
        runs.append(len(secrets))
        return verify(self, request, secrets=secrets, now=now)

    monkeypatch.setattr(TokenVerifier, "verify", counted)
    with_tokens(app).settings["providers.sandbox"]["webhook_secrets"] = []
    async with app.open() as runtime:
        with pytest.raises(WebhookRejected):
            await runtime.accept_webhook("sandbox", sent(""))
    assert runs == [0, 1]


async def spoil_token(runtime, made):
    """Have a subscription's token not open: a byte of it is missing."""
    sealed = evolve(made.verification, ciphertext=made.verification.ciphertext[:-1])
    await runtime._core.store.resources.save_subscription(
        evolve(made, verification=sealed), expected_version=made.version
    )


async def test_token_that_does_not_open_is_left_out_and_the_other_secrets_are_tried(app, caplog):
    async with with_tokens(app).open() as runtime:
        connection = await app.connect(runtime)
        broken = await subscribed(runtime, connection, "one", "token-1")
        await subscribed(runtime, connection, "two", "token-2")
        await spoil_token(runtime, broken)
        for token in ("token-2", "of-the-provider"):
            await runtime.accept_webhook("sandbox", sent(token, id=token), connection_id=connection.id)
        for request in (sent("token-1"), sent("token-1", Channel="one"), sent("of-the-provider", Channel="one")):
            with pytest.raises(WebhookRejected) as rejected:
                await runtime.accept_webhook("sandbox", request, connection_id=connection.id)
            assert rejected.value.status == 401
        assert len((await runtime.deliveries()).items) == 2
    assert f"the token of subscription {broken.id} cannot be opened" in caplog.text
    assert "token-1" not in caplog.text


@pytest.mark.parametrize("fails_with", [BackendUnavailable, KeyNotFound])
async def test_token_that_cannot_be_read_now_has_the_provider_send_again_where_no_other_secret_fits(
    app, clock, fails_with
):
    """Whoever signed with it is not told that it is wrong: a provider would give the delivery up."""
    remote = Remote()
    opening = with_tokens(app).open(
        settings={"secrets.backend": "remote"}, plugins={"remote": remote, "scheme": app.plugins["scheme"]}
    )
    async with opening as runtime:
        connection = await app.connect(runtime)
        await subscribed(runtime, connection, "one", "token-1")
        clock.advance(301)  # the data keys of before are not at hand any more
        remote.member.away, remote.member.fails_with = True, fails_with
        for request in (sent("token-1"), sent("token-1", Channel="one")):
            with pytest.raises(fails_with) as later:
                await runtime.accept_webhook("sandbox", request, connection_id=connection.id)
            assert later.value.status == 503
        verdict = await inbound.authentic(
            runtime._core, "sandbox", sent("of-the-provider"), connection_id=connection.id
        )
        assert isinstance(verdict[1], Verified)


async def test_channel_of_a_connection_that_was_disconnected_is_rejected(app):
    """Also where the subscription was made while the connection ended, so that the end did not find it."""
    async with with_tokens(app).open() as runtime:
        connection = await app.connect(runtime)
        await runtime.disconnect(connection.id, reason="over")
        await subscribed(runtime, connection, "late", "token-1")
        with pytest.raises(WebhookRejected, match="disconnected"):
            await runtime.accept_webhook("sandbox", sent("token-1", Channel="late"))


async def test_channel_without_a_token_is_signed_with_a_secret_of_the_provider(app):
    async with with_tokens(app).open() as runtime:
        connection = await app.connect(runtime)
        await subscribed(runtime, connection, "chan-1")
        accepted = await runtime.accept_webhook("sandbox", sent("of-the-provider", Channel="chan-1"))
        assert (await runtime.delivery(accepted.id)).connection_id == connection.id


async def test_handlers_get_the_body_that_the_scheme_opened_and_the_raw_one_dedupes(either):
    async with with_tokens(either).open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        await runtime.accept_webhook("sandbox", sent("of-the-provider", body=b"sealed", Sealed="1"))
        again = await runtime.accept_webhook("sandbox", sent("of-the-provider", body=b"sealed", Sealed="1"))
        other = await runtime.accept_webhook("sandbox", sent("of-the-provider", body=b"opened sealed"))
        assert (again.duplicate, other.quarantined) == (True, True)
        await runtime.drain()
        assert [body for _, body in got] == [b"opened sealed"]


async def test_too_large_a_body_has_its_own_status(app, runtime, monkeypatch):
    monkeypatch.setattr("go_services_core.runtime.inbound.MAX_BODY", 10)
    with pytest.raises(WebhookTooLarge) as refused:
        await runtime.accept_webhook("sandbox", app.webhook(b"x" * 11))
    assert refused.value.status == 413


# --- how often and in which order -----------------------------------------------------------------------------------


async def test_duplicate_of_a_dead_delivery_rearms_nothing(either):
    """Protocols, Inbox 3; P66, P68."""
    async with with_tokens(either, schedule=Schedule(delays=())).open() as runtime:
        calls = []

        async def handler(event, context):
            calls.append(event.id)
            raise KeyError("broken")

        await runtime.on("webhook.*", handler, name="h")
        accepted = await runtime.accept_webhook("sandbox", sent("of-the-provider"))
        (claim,) = await runtime._core.store.queues.claim("inbox", owner="x", lease=60, limit=5)
        await runtime._core.store.queues.settle(claim, "dead", error="broken")
        again = await runtime.accept_webhook("sandbox", sent("of-the-provider"))
        assert (again.id, again.duplicate) == (accepted.id, True)
        await runtime.drain()
        assert (calls, (await runtime.delivery(accepted.id)).status) == ([], "dead")


async def test_only_the_newest_of_a_burst_is_handled_and_the_others_are_seen(app):
    seen = []
    async with with_tokens(app, burst=Burst(mode="debounce", window=0.3)).open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        runtime.observe(lambda event: seen.append(event.name), name="watch", inline=True)
        ids = []
        for number in range(3):
            app.clock.advance(0.001)
            request = sent("of-the-provider", str(number), f"{number}".encode(), Resource="order/1")
            ids.append((await runtime.accept_webhook("sandbox", request)).id)
        await runtime.accept_webhook("sandbox", sent("of-the-provider", "free", b"free"))
        assert (await runtime.drain()).deliveries == 1
        await asyncio.sleep(0.35)
        await runtime.drain()
        assert [body for _, body in got] == [b"free", b"2"]
        assert [(await runtime.delivery(id)).status for id in ids] == ["superseded", "superseded", "processed"]
        assert seen.count("webhook.superseded") == 2
        again = await runtime.accept_webhook("sandbox", sent("of-the-provider", "0", b"0", Resource="order/1"))
        assert (again.id, again.duplicate) == (ids[0], True)


async def test_burst_survives_a_restart(app):
    """Its state is in the rows: a process that ends in the middle of it loses nothing."""
    with_tokens(app, burst=Burst(mode="debounce", window=0.3))
    async with app.open() as runtime:
        await runtime.accept_webhook("sandbox", sent("of-the-provider", "1", b"1", Resource="r"))
    app.clock.advance(0.001)
    async with app.open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        await runtime.accept_webhook("sandbox", sent("of-the-provider", "2", b"2", Resource="r"))
        assert (await runtime.drain()).deliveries == 0
    await asyncio.sleep(0.35)
    async with app.open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        await runtime.drain()
        assert [body for _, body in got] == [b"2"]


async def test_deliveries_of_one_channel_are_handled_in_order_and_others_beside_them(app):
    async with with_tokens(app, order="resource").open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        for number, resource in enumerate(("a", "b", "a", "")):
            app.clock.advance(0.001)
            await runtime.accept_webhook("sandbox", sent("of-the-provider", str(number), Resource=resource))
        queues = runtime._core.store.queues
        held = await queues.claim("inbox", owner="other", lease=60, limit=10)
        keys = [claim.delivery.order_key for claim in held]
        assert keys == ["sandbox:-:resource:a", "sandbox:-:resource:b", None]
        await queues.settle_many(held, "retry")
        while (await runtime.drain()).deliveries:
            pass
        ordered = [event for event, _ in got if event.payload["resource"] == "a"]
        assert [event.payload["delivery_id"] for event in ordered] == [":0", ":2"]
        assert {event.order_key for event in ordered} == {"sandbox:-:resource:a"}
        assert len(got) == 4


async def test_batch_is_passed_on_in_one_unit_of_constant_statements(app, runtime):
    """Speed: claim and pass on are as many statements for twenty as for one."""

    async def counted(number):
        for one in range(number):
            await runtime.accept_webhook("sandbox", app.webhook(b"{}", id=f"{number}-{one}"))
        seen = []
        runtime._core.store.trace(seen.append)
        assert await runtime.run_due("inbox") == number
        runtime._core.store.trace(None)
        return [text.split(maxsplit=1)[0] for text in seen]

    once = await counted(1)
    assert await counted(20) == once
    assert once == ["BEGIN", "UPDATE", "COMMIT", "BEGIN", "UPDATE", "INSERT", "COMMIT"]


@pytest.mark.parametrize("kind", [Conflict, BadInput])
async def test_delivery_that_the_store_refuses_does_not_hold_up_its_batch(either, monkeypatch, kind):
    """P96: the one is tried again on its provider's schedule, and is dead after its last attempt."""
    app = with_tokens(either, schedule=Schedule(delays=(0.0,)))
    async with app.open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        ids = [(await runtime.accept_webhook("sandbox", sent("of-the-provider", str(n)))).id for n in range(3)]
        queues = runtime._core.store.queues
        real = queues.pass_on

        async def refusing(pairs):
            if any(claim.id == ids[1] for claim, _ in pairs):
                raise kind("a constraint refused")
            return await real(pairs)

        monkeypatch.setattr(queues, "pass_on", refusing)
        await runtime.run_due("inbox")
        states = {id: (await runtime.delivery(id)).status for id in ids}
        assert states == {ids[0]: "processed", ids[1]: "retry_ready", ids[2]: "processed"}
        await runtime.run_due("inbox")
        broken = await runtime.delivery(ids[1])
        assert (broken.status, broken.attempts, broken.error) == ("dead", 2, "a constraint refused")
        await runtime.drain()
        assert len(got) == 2


async def test_settings_win_over_the_providers_policy(app):
    with_tokens(app, order="channel")
    own = app.settings["providers.sandbox"]
    own |= {
        "webhook_schedule": {"delays": [1.0, 2.0], "jitter": 0.0},
        "webhook_concurrency": 3,
        "webhook_timeout": 7.5,
        "webhook_burst": {"mode": "coalesce", "window": 1.5, "key": "event"},
    }
    async with app.open() as runtime:
        policy = runtime._core.instance("sandbox").spec.inbox
        assert policy == InboxPolicy(
            schedule=Schedule(delays=(1.0, 2.0), jitter=0.0),
            concurrency=3,
            timeout=7.5,
            order="channel",
            burst=Burst(mode="coalesce", window=1.5, key="event"),
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook_schedule", {"delays": [-1.0]}),
        ("webhook_schedule", {"delais": [1.0]}),
        ("webhook_concurrency", 0),
        ("webhook_timeout", 0),
        ("webhook_order", "random"),
        ("webhook_burst", {"mode": "throttle"}),
        ("webhook_burst", {"mode": "debounce", "window": 0.0}),
    ],
)
async def test_setting_that_cannot_be_followed_is_refused(app, name, value):
    app.settings["providers.sandbox"][name] = value
    with pytest.raises(ConfigError, match=name):
        async with app.open():
            pass


async def test_what_dedupes_outlives_the_time_for_which_providers_repeat(app):
    """P68."""
    assert KEPT_AT_LEAST["service_webhook_deliveries"] >= sum(Schedule().delays)
    assert set(KEPT_AT_LEAST) <= set(HISTORY)


# --- through a real server ------------------------------------------------------------------------------------------


async def serve(runtime):
    async def receive(request):
        inbound = InboundRequest(request.method, request.raw_path, tuple(request.headers.items()), await request.read())
        await runtime.accept_webhook("sandbox", inbound)
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/hooks", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hooks"


async def test_all_answers_arrive_while_every_handler_blocks_for_ever(live):
    async with live.open() as runtime:
        begun = asyncio.Event()

        async def stuck(event, context):
            begun.set()
            await asyncio.Event().wait()

        await runtime.on("webhook.*", stuck, name="stuck")
        runner, url = await serve(runtime)
        stamp = int(SystemClock().now().timestamp())
        secret = live.sandbox.webhook_secret
        working = None
        for number in range(30):
            status = await send(
                url, b'{"type": "a"}', delivery_id=f"d{number}", timestamp=stamp, secret=secret, headers={}
            )
            assert status == 204
            if working is None:
                working = asyncio.create_task(runtime.drain())
                await asyncio.wait_for(begun.wait(), 20)
        assert len((await runtime.deliveries()).items) == 30
        assert not working.done()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await runner.cleanup()


async def test_storm_of_one_delivery_over_fifty_connections_has_one_effect(live):
    """Faults: the same delivery 1,000 times, 50 at once, each on a connection of its own."""
    async with live.open() as runtime:
        got, handler = collector(runtime)
        await runtime.on("webhook.*", handler, name="h")
        runner, url = await serve(runtime)
        body = b'{"type": "item.created"}'
        request = live.webhook(body)
        statuses = []

        async def client():
            async with ClientSession() as session:
                for _ in range(20):
                    async with session.post(url, data=body, headers=dict(request.headers)) as answer:
                        statuses.append(answer.status)

        working = asyncio.create_task(drained(runtime))
        await asyncio.gather(*(client() for _ in range(50)))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await runtime.drain()
        assert statuses == [204] * 1000
        assert len(got) == 1
        assert [one.status for one in (await runtime.deliveries()).items] == ["processed"]
        await runner.cleanup()


async def drained(runtime):
    while True:
        await runtime.drain()
        await asyncio.sleep(0.01)


async def test_lost_claim_emits_nothing(app, runtime):
    """P66: of a worker whose lease another one took, the late end has no effect."""
    accepted = await runtime.accept_webhook("sandbox", app.webhook(b"{}"))
    queues = runtime._core.store.queues
    (late,) = await queues.claim("inbox", owner="late", lease=0.05, limit=1)
    await asyncio.sleep(0.1)
    assert await runtime.run_due("inbox") == 1
    assert await queues.pass_on([(late, evolve(event_of(late.delivery), id=uuid7(app.clock)))]) == [accepted.id]
    assert [item.id for item in (await queues.list("outbox")).items] == [accepted.id]
    assert await runtime.drain() == Drained()
