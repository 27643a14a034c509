"""Subscriptions against a real provider: made, renewed, replaced, ended, and what is missed between."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve

from go_services_core.errors import (
    BadInput,
    CapabilityUnsupported,
    Conflict,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ReauthRequired,
    ServicesError,
)
from go_services_core.model import Event
from go_services_secrets_appkey.key import generate_key

from .conftest import App, QuietClock
from .subscribing import CALLBACK, CREATES, ENDS, KINDS, LIVES, RENEW, live, names, subscribed, token, told

kinds = pytest.mark.parametrize("kind", KINDS)


def ahead(clock: QuietClock, time: timedelta) -> None:
    clock.advance(time.total_seconds())


@kinds
async def test_subscription_is_what_the_provider_has(either: App, clock: QuietClock, kind: str) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        (channel,) = live(either)
        assert (made.status, made.version, made.attempts, made.status_reason) == ("active", 2, 0, "")
        assert (made.channel_id, made.remote_subscription_id) == (channel.id, channel.id)
        assert made.confirmed_at == clock.now()
        assert made.expires_at == clock.now() + LIVES[kind]
        assert made.renew_at is not None
        assert LIVES[kind] * 0.75 < made.renew_at - clock.now() <= LIVES[kind] * 0.8
        assert (channel.address, channel.resource) == (CALLBACK, "1")
        assert await token(runtime, made) == channel.token
        assert len(channel.token) >= 43  # 32 bytes in base64
        assert await runtime.subscription(made.id) == made
        (event,) = await told(runtime)
        assert (event.name, event.connection_id) == ("subscription.created", made.connection_id)
        assert event.payload["subscription_id"] == made.id
        assert channel.token not in repr((made, event))


async def test_subscription_is_known_before_the_provider_hears_of_it(app: App) -> None:
    """The row, with channel and token, is committed when the request leaves: a sync message may come first."""
    async with app.open() as runtime:
        seen: list[Any] = []
        send = runtime._core.transport.send

        async def spying(request: Any, *, provider_id: str) -> Any:
            if request.url.endswith("/channels/watch"):
                seen.extend(app.rows("SELECT channel_id, status, verification_token FROM service_subscriptions"))
            return await send(request, provider_id=provider_id)

        runtime._core.transport.send = spying  # type: ignore[method-assign]
        made = await subscribed(app, runtime, "items")
        ((channel, status, sealed),) = seen
        assert (channel, status) == (made.channel_id, "active")
        (known,) = live(app)
        assert known.token.encode() not in bytes(sealed)
        assert known.token.encode() not in app.content()


async def test_second_call_gives_the_subscription_that_is_there(either: App, counted: Any) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        counted()
        again = await runtime.subscribe(made.connection_id, "folder", "1", callback_url=CALLBACK)
        assert again == made
        assert counted() == {}
        with pytest.raises(Conflict, match="another way") as refused:
            await runtime.subscribe(made.connection_id, "folder", "1", callback_url=CALLBACK, events=["created"])
        assert refused.value.metadata["subscription_id"] == made.id
        other = await runtime.subscribe(made.connection_id, "folder", "2", callback_url=CALLBACK, events=["a", "b"])
        assert [(one.resource, one.events) for one in live(either)] == [("1", ""), ("2", "a,b")]
        assert other.events == ("a", "b")


async def test_callback_url_comes_from_the_settings(app: App) -> None:
    async with app.open(settings={"webhooks.url": "https://app.example/webhooks/"}) as runtime:
        connection = await app.connect(runtime)
        made = await runtime.subscribe(connection.id, "folder", "1")
        assert made.callback_url == f"https://app.example/webhooks/sandbox/{connection.id}"


async def test_what_cannot_be_subscribed_to_is_refused_before_anything_is_kept(either: App, counted: Any) -> None:
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        counted()
        wrong: list[tuple[Any, str, str, dict[str, Any]]] = [
            (BadInput, "folder", "1", {}),
            (BadInput, "folder", " ", {"callback_url": CALLBACK}),
            (BadInput, "folder", "1", {"callback_url": "http://app.example/x"}),
            (BadInput, "folder", "1", {"callback_url": "/x"}),
            (BadInput, "folder", "1", {"callback_url": CALLBACK, "events": "created"}),
            (CapabilityUnsupported, "nothing", "1", {"callback_url": CALLBACK}),
        ]
        for error, kind, resource, options in wrong:
            with pytest.raises(error):
                await runtime.subscribe(connection.id, kind, resource, **options)
        await runtime.require_reconsent(connection.id, reason="test")
        with pytest.raises(ReauthRequired):
            await runtime.subscribe(connection.id, "folder", "1", callback_url=CALLBACK)
        assert (await runtime.subscriptions()).items == ()
        assert counted() == {}


async def test_refused_subscription_leaves_nothing(either: App) -> None:
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.subscription_lifetime = -1.0
        either.set(subscriptions=evolve(either.providers.specs["sandbox"].subscriptions[1], lifetime=1e-9))
    async with either.open() as runtime:
        with pytest.raises(ProviderError) as refused:
            await runtime.subscribe(connection.id, "folder", "1", callback_url=CALLBACK)
        assert refused.value.upstream_status == 400
        assert "subscription_id" not in refused.value.metadata
        (row,) = (await runtime.subscriptions()).items
        assert (row.status, row.verification, row.renew_at) == ("cancelled", None, None)
        assert await told(runtime) == []
        assert live(either) == []


@kinds
async def test_subscription_whose_answer_was_lost_is_made_anew(either: App, clock: QuietClock, kind: str) -> None:
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.faults.set(CREATES[kind], "cut")
        with pytest.raises(OutcomeUnknown) as lost:
            await runtime.subscribe(connection.id, kind, "1", callback_url=CALLBACK)
        row = await runtime.subscription(lost.value.metadata["subscription_id"])
        assert (row.status, row.confirmed_at) == ("active", None)
        assert await runtime.run_due(RENEW) == 0
        ahead(clock, timedelta(minutes=4))
        assert await runtime.run_due(RENEW) == 1
        old = await runtime.subscription(row.id)
        assert (old.status, old.verification, old.status_reason) == ("cancelled", None, "unanswered")
        assert old.replaced_by is not None
        new = await runtime.subscription(old.replaced_by)
        assert (new.status, new.confirmed_at) == ("active", clock.now())
        assert [await token(runtime, new)] == [one.token for one in live(either) if one.id == new.channel_id]
        assert sorted(names(await told(runtime))) == ["cancelled", "created"]


async def test_subscription_whose_answer_was_lost_is_made_anew_by_a_second_call(either: App) -> None:
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.faults.set("channels.watch", "cut")
        with pytest.raises(OutcomeUnknown):
            await runtime.subscribe(connection.id, "items", "1", callback_url=CALLBACK)
        made = await runtime.subscribe(connection.id, "items", "1", callback_url=CALLBACK)
        assert made.confirmed_at is not None
        assert [one.id for one in (await runtime.subscriptions(status="active")).items] == [made.id]


async def test_subscription_is_extended_before_its_end(either: App, clock: QuietClock, counted: Any) -> None:
    """Where the provider has an operation for it, as Microsoft Graph has: same row, same channel, same token."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        ahead(clock, LIVES["folder"] * 0.7)
        counted()
        assert await runtime.run_due(RENEW) == 0
        ahead(clock, LIVES["folder"] * 0.12)
        assert await runtime.run_due(RENEW) == 1
        assert counted()["subscriptions.renew"] == 1
        renewed = await runtime.subscription(made.id)
        assert renewed.expires_at == clock.now() + LIVES["folder"]
        assert (renewed.channel_id, renewed.verification) == (made.channel_id, made.verification)
        (channel,) = live(either)
        assert channel.expires_at == renewed.expires_at.timestamp()
        assert names(await told(runtime)) == ["created", "renewed"]
        assert await runtime.run_due(RENEW) == 0


async def test_channel_is_replaced_before_its_end_and_both_are_live_for_a_while(either: App, clock: QuietClock) -> None:
    """Where there is no such operation, as at Google: nothing is missed, and both tokens are good meanwhile."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "items")
        ahead(clock, LIVES["items"] * 0.82)
        assert await runtime.run_due(RENEW) == 1
        old = await runtime.subscription(made.id)
        assert old.replaced_by is not None
        new = await runtime.subscription(old.replaced_by)
        assert (old.status, new.status, new.replaces) == ("active", "active", old.id)
        tokens = {await token(runtime, old), await token(runtime, new)}
        assert {one.token for one in live(either)} == tokens
        assert len(tokens) == 2
        assert await runtime.run_due(RENEW) == 0
        ahead(clock, timedelta(seconds=61))
        assert await runtime.run_due(RENEW) == 1
        old = await runtime.subscription(made.id)
        assert (old.status, old.status_reason, old.verification) == ("cancelled", "replaced", None)
        assert [one.id for one in live(either)] == [new.channel_id]
        assert names(await told(runtime)) == ["created", "renewed", "cancelled"]


async def test_replaced_channel_that_cannot_be_ended_is_left_to_a_job(either: App, clock: QuietClock) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "items")
        ahead(clock, LIVES["items"] * 0.82)
        assert await runtime.run_due(RENEW) == 1
        either.sandbox.faults.set("channels.stop", "500", times=None)
        for _ in range(5):
            assert (await runtime.subscription(made.id)).status == "active"
            ahead(clock, timedelta(minutes=10))
            await runtime.run_due(RENEW)
        assert (await runtime.subscription(made.id)).status == "cancelled"
        assert len(live(either)) == 2
        either.sandbox.faults.clear("channels.stop")
        ahead(clock, timedelta(minutes=10))
        make_due(either)
        assert await runtime.run_due("subscriptions.cancel") == 1
        assert len(live(either)) == 1


@kinds
async def test_subscription_that_the_provider_dropped_is_made_anew(either: App, clock: QuietClock, kind: str) -> None:
    """P70: 404 and 410 recreate; what may have been missed is told, with a job where the record asks for one."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        ahead(clock, timedelta(hours=5))
        heard = clock.now()
        await runtime._core.store.resources.notified({("sandbox", made.channel_id): heard})
        either.sandbox.channels.ended.add(made.channel_id)
        ahead(clock, LIVES[kind] * 0.82 - timedelta(hours=5))
        if kind == "items":  # nobody asks a channel whether it is alive: it is replaced, dropped or not
            assert await runtime.run_due(RENEW) == 1
            assert names(await told(runtime)) == ["created", "renewed"]
            return
        assert await runtime.run_due(RENEW) == 1
        old = await runtime.subscription(made.id)
        assert (old.status, old.status_reason) == ("cancelled", "gone")
        new = await runtime.subscription(str(old.replaced_by))
        assert [one.id for one in live(either)] == [new.channel_id]
        events = await told(runtime)
        assert names(events)[0] == "created"
        assert sorted(names(events)[1:]) == ["cancelled", "gap", "recreated"]
        gap = one(events, "gap")
        assert gap.payload["since"] == heard.isoformat()
        assert gap.payload["until"] == clock.now().isoformat()
        job = await runtime._core.store.queues.job(gap.payload["job_id"])
        assert job is not None
        assert (job.kind, job.mode, job.connection_id) == ("sync.backfill", "backfill", made.connection_id)
        assert job.payload["since"] == heard.isoformat()


def one(events: list[Event], name: str) -> Event:
    (found,) = [event for event in events if event.name == f"subscription.{name}"]
    return found


def make_due(app: App) -> None:
    """Let the time come of jobs that wait, which is the database's."""
    if app.store is None:
        app.rows("UPDATE service_sync_jobs SET next_attempt_at = created_at WHERE status IN ('queued', 'running')")
        return
    for slot in app.store._tables.jobs.values():
        slot.due = slot.changed - timedelta(days=1)


@kinds
async def test_subscription_that_expired_meanwhile_is_made_anew_with_its_gap(
    either: App, clock: QuietClock, kind: str
) -> None:
    """P70: no worker ran; until its end the subscription brought what there was, and from then on nothing."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        ahead(clock, LIVES[kind] + timedelta(hours=1))
        assert live(either) == []
        assert await runtime.run_due(RENEW) == 1
        events = await told(runtime)
        assert sorted(names(events)[1:]) == ["cancelled", "gap", "recreated"]
        assert one(events, "gap").payload["since"] == (made.expires_at or clock.now()).isoformat()
        assert (one(events, "gap").payload["job_id"] is not None) == (kind == "folder")
        assert len(live(either)) == 1


@kinds
@pytest.mark.parametrize("lifetime", [1800.0, 86_400.0])
async def test_renewal_survives_two_missed_rounds(either: App, clock: QuietClock, kind: str, lifetime: float) -> None:
    """P70: from the moment at which it is due there is time for many rounds, also where the life is short."""
    async with either.open() as runtime:
        either.sandbox.subscription_lifetime = lifetime
        made = await subscribed(either, runtime, kind)
        assert made.renew_at is not None
        assert made.expires_at is not None
        assert made.expires_at - made.renew_at >= timedelta(minutes=10)
        ahead(clock, made.renew_at - clock.now() + timedelta(minutes=3))
        assert await runtime.run_due(RENEW) == 1
        assert names(await told(runtime)) == ["created", "renewed"]


@kinds
async def test_failed_renewal_is_tried_again_within_what_is_left(either: App, clock: QuietClock, kind: str) -> None:
    endpoint = "subscriptions.renew" if kind == "folder" else "channels.watch"
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        ahead(clock, LIVES[kind] * 0.82)
        either.sandbox.faults.set(endpoint, "500", times=None)
        assert await runtime.run_due(RENEW) == 0
        tried = await runtime.subscription(made.id)
        assert (tried.status, tried.attempts) == ("active", 1)
        assert tried.renew_at is not None
        assert timedelta(seconds=60) <= tried.renew_at - clock.now() <= timedelta(seconds=72)
        assert await runtime.run_due(RENEW) == 0  # not yet
        assert (await runtime.subscription(made.id)).attempts == 1
        either.sandbox.faults.clear(endpoint)
        ahead(clock, timedelta(seconds=73))
        assert await runtime.run_due(RENEW) == 1
        now = await runtime.subscription(made.id)
        assert (now.attempts, now.status_reason) == (0, "") or now.replaced_by is not None
        failure = one(await told(runtime), "renewal_failed")
        assert (failure.payload["attempts"], failure.payload["status"]) == (1, "active")


async def test_renewal_that_fails_until_the_end_is_told_as_expired_once(either: App, clock: QuietClock) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        either.sandbox.faults.set("subscriptions.renew", "500", times=None)
        either.sandbox.faults.set("subscriptions.create", "500", times=None)
        ahead(clock, LIVES["folder"] + timedelta(seconds=1))
        for _ in range(3):
            await runtime.run_due(RENEW)
            ahead(clock, timedelta(hours=2))
        lost = await runtime.subscription(made.id)
        assert (lost.status, lost.attempts) == ("expired", 3)
        assert names(await told(runtime)).count("expired") == 1
        either.sandbox.faults.clear("subscriptions.create")
        assert await runtime.run_due(RENEW) == 1
        assert one(await told(runtime), "gap").payload["since"] == (made.expires_at or clock.now()).isoformat()


async def test_connection_that_needs_a_consent_is_not_asked_and_tried_again_when_it_is_back(
    either: App, clock: QuietClock, counted: Any
) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        await runtime.require_reconsent(made.connection_id, reason="test")
        ahead(clock, LIVES["folder"] * 0.9)
        counted()
        assert await runtime.run_due(RENEW) == 0
        ahead(clock, LIVES["folder"] * 0.2)
        assert await runtime.run_due(RENEW) == 1  # that it expired is kept, once
        assert await runtime.run_due(RENEW) == 0
        assert counted() == {}
        assert (await runtime.subscription(made.id)).status == "expired"
        assert names(await told(runtime))[1:] == ["expired"]
        assert (await either.connect(runtime)).id == made.connection_id
        assert await runtime.run_due(RENEW) == 1
        assert len(live(either)) == 1
        assert one(await told(runtime), "gap").payload["since"] == (made.expires_at or clock.now()).isoformat()


async def test_connection_that_ends_at_a_renewal_costs_its_subscription_no_attempt(
    either: App, clock: QuietClock
) -> None:
    """The token endpoint says invalid_grant in the middle of a run: nothing more is asked until somebody consents."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        ahead(clock, LIVES["folder"] * 0.82)
        for secret in either.secrets("sbx_rt_"):
            either.sandbox.ledger.revoke(secret)
        assert await runtime.run_due(RENEW) == 0
        assert (await runtime.connection(made.connection_id)).status == "pending_reauth"
        assert (await runtime.subscription(made.id)).attempts == 0
        asked = either.sandbox.requests["token"]
        assert await runtime.run_due(RENEW) == 0
        assert either.sandbox.requests["token"] == asked
        await either.connect(runtime)
        assert await runtime.run_due(RENEW) == 1


async def test_every_page_of_what_is_due_is_seen_to(app: App, clock: QuietClock, monkeypatch: Any) -> None:
    """P70; behaviour §27, item 39: lists were cut at 25."""
    from go_services_core.runtime import subscription_keeper

    monkeypatch.setattr(subscription_keeper, "PAGE", 7)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for number in range(30):
            await runtime.subscribe(connection.id, "folder", str(number), callback_url=CALLBACK)
        ahead(clock, LIVES["folder"] * 0.82)
        assert await runtime.run_due(RENEW, 5) == 5
        assert await runtime.run_due(RENEW, 1000) == 25
        ends = {one.expires_at for one in (await runtime.subscriptions()).items}
        assert ends == {clock.now() + LIVES["folder"]}


@kinds
async def test_cancelled_subscription_is_ended_at_the_provider_and_its_token_destroyed(either: App, kind: str) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        ended = await runtime.cancel_subscription(made.id, reason="user asked")
        assert (ended.status, ended.status_reason, ended.verification) == ("cancelled", "user asked", None)
        assert live(either) == []
        assert await runtime.cancel_subscription(made.id) == ended
        assert either.sandbox.requests[ENDS[kind]] == 1
        event = one(await told(runtime), "cancelled")
        assert (event.payload["reason"], event.payload["told"]) == ("user asked", True)
        with pytest.raises(Conflict):
            await runtime.renew_subscription(made.id)
        again = await runtime.subscribe(made.connection_id, kind, "1", callback_url=CALLBACK)
        assert again.id != made.id
        with pytest.raises(NotFound):
            await runtime.cancel_subscription("none")


@kinds
async def test_cancelling_is_not_held_up_by_a_provider_that_is_down(either: App, kind: str) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        either.sandbox.faults.set(ENDS[kind], "503", times=None)
        assert (await runtime.cancel_subscription(made.id)).status == "cancelled"
        assert len(live(either)) == 1
        make_due(either)
        assert await runtime.run_due("subscriptions.cancel") == 0
        either.sandbox.faults.clear()
        make_due(either)
        assert await runtime.run_due("subscriptions.cancel") == 1
        assert live(either) == []


async def test_cancelling_what_was_replaced_ends_both(either: App, clock: QuietClock) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "items")
        renewed = await runtime.renew_subscription(made.id)
        assert renewed.replaces == made.id
        assert len(live(either)) == 2
        assert (await runtime.cancel_subscription(made.id)).id == renewed.id
        assert live(either) == []


@kinds
async def test_disconnect_ends_subscriptions_at_the_provider(either: App, kind: str) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        ended = await runtime.disconnect(made.connection_id)
        assert ended.cancelled == (made.id,)
        assert live(either) == []
        row = await runtime.subscription(made.id)
        assert (row.status, row.verification) == ("cancelled", None)
        assert await runtime.run_due("subscriptions.cancel") == 0


@kinds
async def test_disconnect_leaves_to_a_job_what_the_provider_could_not_be_told(either: App, kind: str) -> None:
    """It needs the connection, and goes on when that is back."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, kind)
        either.sandbox.faults.set(ENDS[kind], "503", times=None)
        assert (await runtime.disconnect(made.connection_id)).connection.status == "disconnected"
        either.sandbox.faults.clear()
        make_due(either)
        assert await runtime.run_due("subscriptions.cancel") == 0
        assert len(live(either)) == 1
        await either.connect(runtime)
        make_due(either)
        assert await runtime.run_due("subscriptions.cancel") == 1
        assert live(either) == []


async def test_job_that_ends_a_subscription_gives_up_at_its_end(either: App, clock: QuietClock, counted: Any) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        either.sandbox.faults.set("subscriptions.end", "503", times=None)
        await runtime.cancel_subscription(made.id)
        ahead(clock, LIVES["folder"])
        make_due(either)
        assert await runtime.run_due("subscriptions.cancel") == 1


async def test_gap_that_the_provider_tells_of_is_reported(either: App, clock: QuietClock) -> None:
    """P70: `missed` triggers backfill."""
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        ahead(clock, timedelta(hours=1))
        await runtime.report_gap(made.id, since=clock.now() - timedelta(minutes=5))
        await runtime.report_gap(made.id, reason="lost")
        first, second = [event for event in await told(runtime) if event.name == "subscription.gap"]
        by_reason = {event.payload["reason"]: event.payload for event in (first, second)}
        assert by_reason["missed"]["since"] == (clock.now() - timedelta(minutes=5)).isoformat()
        assert by_reason["lost"]["since"] == made.created_at.isoformat()
        assert (await runtime.subscription(made.id)).status == "active"
        for since in (clock.now() + timedelta(seconds=1), clock.now().replace(tzinfo=None)):
            with pytest.raises(BadInput):
                await runtime.report_gap(made.id, since=since)


async def test_subscription_cancelled_while_it_is_renewed_is_not_left_at_the_provider(app: App) -> None:
    async with app.open() as runtime:
        made = await subscribed(app, runtime, "items")
        send = runtime._core.transport.send

        async def racing(request: Any, *, provider_id: str) -> Any:
            answer = await send(request, provider_id=provider_id)
            if request.url.endswith("/channels/watch"):
                await runtime.cancel_subscription(made.id)
            return answer

        runtime._core.transport.send = racing  # type: ignore[method-assign]
        with pytest.raises(Conflict):
            await runtime.renew_subscription(made.id)
        assert live(app) == []
        assert {one.status for one in (await runtime.subscriptions()).items} == {"cancelled"}


async def test_subscription_cancelled_while_it_is_made_is_not_left_at_the_provider(app: App) -> None:
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        send = runtime._core.transport.send

        async def racing(request: Any, *, provider_id: str) -> Any:
            answer = await send(request, provider_id=provider_id)
            if request.url.endswith("/subscriptions"):
                (row,) = (await runtime.subscriptions()).items
                await runtime.cancel_subscription(row.id)
            return answer

        runtime._core.transport.send = racing  # type: ignore[method-assign]
        with pytest.raises(Conflict):
            await runtime.subscribe(connection.id, "folder", "1", callback_url=CALLBACK)
        assert live(app) == []


async def test_tokens_are_changed_to_another_key_with_everything_else(app: App, clock: QuietClock) -> None:
    """What deliveries are verified with opens afterwards without the old key; renewals go on under the new one."""
    async with app.open() as runtime:
        made = await subscribed(app, runtime, "items")
        before = await token(runtime, made)
    new = generate_key()
    async with app.open(settings={"secrets.appkey.key": new, "secrets.appkey.decrypt_only": [app.key]}) as runtime:
        assert (await runtime.reencrypt()).complete
    async with app.open(settings={"secrets.appkey.key": new}) as runtime:
        assert await token(runtime, await runtime.subscription(made.id)) == before
        ahead(clock, LIVES["items"] * 0.82)
        assert await runtime.run_due(RENEW) == 1
        old = await runtime.subscription(made.id)
        tokens = {await token(runtime, old), await token(runtime, await runtime.subscription(str(old.replaced_by)))}
        assert {one.token for one in live(app)} == tokens


async def test_errors_of_a_renewal_say_what_the_provider_said(either: App, clock: QuietClock) -> None:
    async with either.open() as runtime:
        made = await subscribed(either, runtime, "folder")
        either.sandbox.faults.set("subscriptions.renew", "429", retry_after=300, times=None)
        with pytest.raises(ServicesError):
            await runtime.renew_subscription(made.id)
        tried = await runtime.subscription(made.id)
        assert tried.renew_at is not None
        assert tried.renew_at - clock.now() >= timedelta(seconds=300)
        assert tried.status_reason
