"""Webhooks in: verified on the raw bytes, kept sealed, handled once."""

from __future__ import annotations

import json
import sqlite3

import pytest
from attrs import evolve

from go_services_core import InboundRequest
from go_services_core.errors import (
    BackendUnavailable,
    BadInput,
    NotFound,
    ProviderNotFound,
    StoreError,
    WebhookRejected,
)
from go_services_core.handled import Handled
from go_services_core.model import Drained
from go_services_core.runtime import disconnect
from go_services_core.secret import SecretStr
from go_services_core.testing.sandbox.webhooks import sign

BODY = b'{ "type": "item.created",  "data": {"id": 7, "name": "\xc3\xbc"} }'
"""Spaced as no serialiser would, so that only the original bytes fit the signature."""


async def inbox(runtime, status=None):
    return (await runtime._core.store.queues.list("inbox", status=status)).items


async def test_delivery_reaches_its_handler_with_the_original_request(either):
    """P60."""
    async with either.open() as runtime:
        got = []

        async def handler(event, context):
            got.append((event, await context.request()))

        await runtime.on("webhook.item.*", handler, name="items")
        sent = either.webhook(BODY)
        accepted = await runtime.accept_webhook("sandbox", sent)
        assert (accepted.duplicate, accepted.quarantined, accepted.challenge) == (False, False, None)
        assert got == []
        assert await runtime.drain() == Drained(deliveries=1, events=1)
        ((event, request),) = got
        assert request == sent
        assert (event.name, event.source, event.provider_id) == ("webhook.item.created", "webhook", "sandbox")
        assert event.id == accepted.id
        assert event.payload == {
            "delivery": accepted.id,
            "delivery_id": "msg_1",
            "event": "item.created",
            "channel": "",
            "resource": "",
        }
        assert await runtime.drain() == Drained()


async def test_duplicate_is_answered_and_not_handled_again(either):
    """P68."""
    async with either.open() as runtime:
        seen = []

        async def handler(event, context):
            seen.append(event.id)

        await runtime.on("webhook.*", handler, name="h")
        first = await runtime.accept_webhook("sandbox", either.webhook(BODY))
        again = await runtime.accept_webhook("sandbox", either.webhook(BODY))
        assert (again.id, again.duplicate) == (first.id, True)
        await runtime.drain()
        either.clock.advance(200)
        later = await runtime.accept_webhook("sandbox", either.webhook(BODY))
        assert later.duplicate
        await runtime.drain()
        assert len(seen) == 1


async def test_same_id_with_another_body_is_visible_and_not_handled(either):
    """Protocols, Inbox 2."""
    async with either.open() as runtime:
        seen = []

        async def handler(event, context):
            seen.append(json.loads((await context.request()).body))

        await runtime.on("webhook.*", handler, name="h")
        await runtime.accept_webhook("sandbox", either.webhook(b'{"type": "a"}'))
        other = await runtime.accept_webhook("sandbox", either.webhook(b'{"type": "b"}'))
        assert other.quarantined
        assert not other.duplicate
        await runtime.drain()
        assert seen == [{"type": "a"}]
        assert [item.id for item in await inbox(runtime, "quarantined")] == [other.id]


async def test_what_becomes_of_a_delivery_is_observed(app, runtime):
    """The signals of the runbook: how many are kept, known already, in quarantine, or refused."""
    told = []
    runtime.observe(told.append, name="test", inline=True)
    sent = app.webhook(b'{"type": "a"}')
    for request in (sent, sent, app.webhook(b'{"type": "b"}')):
        await runtime.accept_webhook("sandbox", request)
    with pytest.raises(WebhookRejected):
        await runtime.accept_webhook("sandbox", changed(sent, webhook_signature="v1,bad"))
    seen = [(one.name, one.ok, one.provider_id) for one in told if one.phase == "end" and one.name != "webhook.accept"]
    assert seen == [
        ("webhook.accepted", True, "sandbox"),
        ("webhook.duplicate", True, "sandbox"),
        ("webhook.quarantined", True, "sandbox"),
        ("webhook.rejected", False, "sandbox"),
    ]


def changed(request, **headers):
    pairs = tuple((name, headers.get(name.replace("-", "_"), value)) for name, value in request.headers)
    return InboundRequest(request.method, request.target, pairs, request.body)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda app: app.webhook(BODY, webhook_signature="v1,AAAA"),
        lambda app: app.webhook(BODY, webhook_signature=""),
        lambda app: app.webhook(BODY, webhook_id=""),
        lambda app: app.webhook(BODY, webhook_timestamp=""),
        lambda app: app.webhook(BODY, webhook_timestamp="nan"),
        lambda app: app.webhook(BODY, webhook_timestamp="1"),
        lambda app: changed(app.webhook(BODY), webhook_id="msg_2"),
        lambda app: InboundRequest("POST", "/", app.webhook(BODY).headers, json.dumps(json.loads(BODY)).encode()),
        lambda app: app.webhook(BODY, webhook_signature=sign(SecretStr("guess"), "msg_1", 1767225600, BODY)),
    ],
    ids=["signature", "no signature", "no id", "no time", "odd time", "old", "other id", "reserialised", "other key"],
)
async def test_delivery_that_is_not_authentic_is_rejected_and_not_kept(app, runtime, spoil):
    """P60 to P63."""
    with pytest.raises(WebhookRejected) as rejected:
        await runtime.accept_webhook("sandbox", spoil(app))
    assert rejected.value.status == 401
    assert app.sandbox.webhook_secret.reveal() not in str(rejected.value)
    assert await inbox(runtime) == ()
    assert await runtime.drain() == Drained()


@pytest.mark.parametrize("off", [-301, 301])
async def test_delivery_of_another_time_is_rejected(app, runtime, off):
    """P63."""
    sent = app.webhook(BODY)
    app.clock.advance(off)
    with pytest.raises(WebhookRejected, match="tolerance"):
        await runtime.accept_webhook("sandbox", sent)


async def test_delivery_is_rejected_where_no_secret_is_configured(app):
    """P62."""
    settings = {"providers.sandbox": {**app.settings["providers.sandbox"], "webhook_secrets": []}}
    async with app.open(settings=settings) as runtime:
        with pytest.raises(WebhookRejected, match="no webhook secret"):
            await runtime.accept_webhook("sandbox", app.webhook(BODY))
        assert await inbox(runtime) == ()


async def test_every_live_secret_is_accepted(app):
    """P64: while a secret is exchanged, both are live."""
    both = ["the-new-one", app.sandbox.webhook_secret.reveal()]
    settings = {"providers.sandbox": {**app.settings["providers.sandbox"], "webhook_secrets": both}}
    async with app.open(settings=settings) as runtime:
        assert not (await runtime.accept_webhook("sandbox", app.webhook(BODY))).duplicate


async def test_connection_of_the_url_is_bound_to_the_delivery(either):
    """Protocols, Inbox 1."""
    async with either.open() as runtime:
        got = []

        async def handler(event, context):
            got.append((event.connection_id, event.scope, (await context.request()).body))

        await runtime.on("webhook.*", handler, name="h")
        connection = await either.connect(runtime)
        other = await either.connect(runtime, "u2")
        for target in (connection, other):
            accepted = await runtime.accept_webhook("sandbox", either.webhook(BODY), connection_id=target.id)
            assert not accepted.duplicate  # ids are per connection
        await runtime.drain()
        assert sorted(got, key=lambda item: item[1].id) == [
            (connection.id, connection.scope, BODY),
            (other.id, other.scope, BODY),
        ]


async def test_connection_that_is_unknown_or_of_another_provider_is_refused(app, runtime):
    connection = await app.connect(runtime)
    for provider_id, connection_id in (("sandbox", "nobody"), ("keyed", connection.id)):
        with pytest.raises(WebhookRejected) as refused:
            await runtime.accept_webhook(provider_id, app.webhook(BODY), connection_id=connection_id)
        assert refused.value.status == 401
    assert await inbox(runtime) == ()


async def test_connection_that_was_disconnected_gets_no_delivery_any_more(either, monkeypatch):
    """Until its end is committed it does: also while the provider is told."""
    async with either.open() as runtime:
        connection, other = await either.connect(runtime), await either.connect(runtime, "u2")
        revoke = disconnect.revoke

        async def slow(*args, **more):
            await runtime.accept_webhook("sandbox", either.webhook(BODY, id="during"), connection_id=connection.id)
            return await revoke(*args, **more)

        monkeypatch.setattr(disconnect, "revoke", slow)
        await runtime.disconnect(connection.id, reason="over")
        with pytest.raises(WebhookRejected) as refused:
            await runtime.accept_webhook("sandbox", either.webhook(BODY, id="after"), connection_id=connection.id)
        assert refused.value.status == 401
        await runtime.accept_webhook("sandbox", either.webhook(BODY, id="after"), connection_id=other.id)
        kept = {one.delivery_id: one.connection_id for one in (await runtime.deliveries()).items}
        assert kept == {"during": connection.id, "after": other.id}


async def test_provider_that_is_unknown_or_sends_none_is_refused(app, runtime):
    with pytest.raises(ProviderNotFound):
        await runtime.accept_webhook("sandbax", app.webhook(BODY))
    with pytest.raises(BadInput, match="no webhooks"):
        await runtime.accept_webhook("personal", app.webhook(BODY))


async def test_store_failure_surfaces_so_that_the_provider_tries_again(app, runtime):
    """Protocols, Inbox 3: never 2xx."""
    app.rows("ALTER TABLE service_webhook_deliveries RENAME TO service_webhook_away")
    with pytest.raises(StoreError):
        await runtime.accept_webhook("sandbox", app.webhook(BODY))
    app.rows("ALTER TABLE service_webhook_away RENAME TO service_webhook_deliveries")
    assert not (await runtime.accept_webhook("sandbox", app.webhook(BODY))).duplicate


async def test_secret_backend_that_is_away_surfaces_so_that_the_provider_tries_again(app, runtime):
    await runtime._core.backend.aclose()
    with pytest.raises(BackendUnavailable) as failed:
        await runtime.accept_webhook("sandbox", app.webhook(BODY))
    assert failed.value.status == 503
    assert await inbox(runtime) == ()


async def test_neither_body_nor_headers_are_in_the_database(app, runtime):
    secret = b'{"type": "item.created", "card": "4111-1111-1111-1111"}'
    await runtime.accept_webhook("sandbox", app.webhook(secret, X_Private="for-your-eyes-only"))
    await runtime.drain()
    content = app.content()
    for text in (b"4111-1111", b"for-your-eyes-only", b"from=test", app.sandbox.webhook_secret.reveal().encode()):
        assert text not in content


async def test_delivery_sealed_for_one_row_does_not_open_in_another(app, runtime):
    """P50."""
    got = []

    async def handler(event, context):
        got.append((await context.request()).body)

    await runtime.on("webhook.*", handler, name="h")
    for id in ("msg_1", "msg_2"):
        await runtime.accept_webhook("sandbox", app.webhook(BODY, id=id))
    app.rows(
        "UPDATE service_webhook_deliveries SET payload ="
        " (SELECT payload FROM service_webhook_deliveries WHERE delivery_id = 'msg_1')"
    )
    assert await runtime.drain() == Drained(deliveries=2, events=1, failed=1)
    assert got == [BODY]


async def test_delivery_whose_body_does_not_open_is_dead_at_once_with_the_reason(app, runtime):
    """P96: no schedule of days makes it open. Its neighbours are handled."""
    got = []

    async def handler(event, context):
        got.append((await context.request()).body)

    await runtime.on("webhook.*", handler, name="h")
    ids = [(await runtime.accept_webhook("sandbox", app.webhook(BODY, id=f"msg_{n}"))).id for n in range(3)]
    app.rows("UPDATE service_webhook_deliveries SET payload = CAST(x'00' || payload AS BLOB) WHERE id = ?", ids[1])
    assert await runtime.drain() == Drained(deliveries=3, events=2, failed=1)
    assert got == [BODY, BODY]
    (state,) = (await runtime.delivery(ids[1])).handlers
    assert (state.status, state.attempts) == ("dead", 1)
    assert state.error.startswith(f"The delivery {ids[1]} cannot be opened: ")


async def test_delivery_whose_row_cannot_be_read_is_dead_and_its_neighbours_are_handled(app, runtime):
    """P96."""
    got = []

    async def handler(event, context):
        got.append(event.payload["delivery_id"])

    await runtime.on("webhook.*", handler, name="h")
    ids = [(await runtime.accept_webhook("sandbox", app.webhook(BODY, id=f"msg_{n}"))).id for n in range(4)]
    app.rows("UPDATE service_webhook_deliveries SET received_at = 'yesterday' WHERE id = ?", ids[0])
    app.rows("UPDATE service_webhook_deliveries SET scope_type = '', scope_id = '' WHERE id = ?", ids[2])
    assert await runtime.drain() == Drained(deliveries=2, events=2)
    assert sorted(got) == ["msg_1", "msg_3"]
    assert {item.id: (item.attempts, item.error) for item in await inbox(runtime, "dead")} == {
        ids[0]: (1, "The delivery cannot be read: ValueError."),
        ids[2]: (1, "The delivery cannot be read: InvalidScope."),
    }


async def test_event_opens_no_delivery_but_its_own(app, runtime):
    """Whoever may emit an event may not read a delivery by naming it."""
    found = []

    async def handler(event, context):
        try:
            found.append((await context.request()).body)
        except NotFound as error:
            found.append((event.name, str(error)))

    async def emitting(event, context):
        named = {**event.payload, "delivery": event.id}
        made = evolve(event, id=f"{event.id}-x", name="webhook.forged", payload=named)
        return Handled(events=[made, evolve(made, id=f"{event.id}-y", name="report.made")])

    await runtime.on("webhook.item.*", emitting, name="emitting")
    await runtime.accept_webhook("sandbox", app.webhook(BODY))
    await runtime.run_due("inbox")
    await runtime.on("*", handler, name="reading")
    await runtime.drain()
    assert sorted(one for one in found if one != BODY) == [
        ("report.made", "The event report.made has no webhook request behind it."),
        ("webhook.forged", "The event webhook.forged has no webhook request behind it."),
    ]


async def test_accepting_costs_one_statement(app, runtime):
    """Design, storage: a new delivery is one INSERT in a commit of its own."""
    seen = []
    runtime._core.store.trace(lambda text: seen.append(text.split(maxsplit=1)[0].upper()))
    await runtime.accept_webhook("sandbox", app.webhook(BODY))
    runtime._core.store.trace(None)
    assert seen == ["BEGIN", "INSERT", "COMMIT"]


async def test_delivery_without_a_name_is_still_kept(app, runtime):
    seen = []

    async def handler(event, context):
        seen.append(event.name)

    await runtime.on("webhook.*", handler, name="h")
    await runtime.accept_webhook("sandbox", app.webhook(b"not json at all"))
    await runtime.drain()
    assert seen == ["webhook.unknown"]


async def test_body_over_the_limit_is_rejected_before_it_is_hashed(app, runtime, monkeypatch):
    monkeypatch.setattr("go_services_core.runtime.inbound.MAX_BODY", 10)
    with pytest.raises(WebhookRejected, match="larger"):
        await runtime.accept_webhook("sandbox", app.webhook(BODY))


async def test_accepted_delivery_survives_a_restart(app):
    """Accepted means durable: nothing lives only in memory."""
    async with app.open() as runtime:
        await runtime.on("webhook.*", None, name="h")  # known from now on, and not run here
        await runtime.accept_webhook("sandbox", app.webhook(BODY))
        with sqlite3.connect(app.database) as connection:
            assert connection.execute("SELECT status FROM service_webhook_deliveries").fetchall() == [("pending",)]
        connection.close()
    seen = []

    async def handler(event, context):
        seen.append((await context.request()).body)

    async with app.open() as runtime:
        await runtime.on("webhook.*", handler, name="h")
        await runtime.drain()
    assert seen == [BODY]
