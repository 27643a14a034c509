"""Where two rules meet: retention and handlers that wait, keys and indexes, ids and their parts, messages about messages."""

from __future__ import annotations

import secrets
from contextlib import suppress

import pytest
from attrs import evolve

from go_services_core import HttpResponse
from go_services_core.clock import uuid7
from go_services_core.delivery_specs import Schedule
from go_services_core.errors import BadInput, Unrecoverable, WebhookRejected
from go_services_core.handled import Handled
from go_services_core.model import Event, NewJob, Scope
from go_services_core.protocols import Verified
from go_services_core.runtime.surfaces import LARGEST_ANSWER
from go_services_core.web.request import WebRequest
from go_services_core.web.routes import answer
from go_services_core.web.site import Site

from .test_refresh_kills import on_disk
from .test_surfaces import TokenVerifier, counting, keyed

__all__ = ["on_disk"]

BODY = b'{"type": "item.created"}'
PAST = "'2001-01-01 00:00:00.000000'"


@pytest.mark.parametrize("outcome", ["dead", "retry"])
async def test_request_of_a_delivery_is_kept_while_a_handler_may_still_want_it(live, outcome):
    """P96, P73: of what is replayed after the retention of deliveries, the handler finds the request."""
    bodies = []
    broken = [Unrecoverable("not now") if outcome == "dead" else RuntimeError("not now")]

    async def handler(event, context):
        if broken:
            raise broken.pop()
        bodies.append((await context.request()).body)

    async with live.open() as runtime:
        await runtime.on("webhook.*", handler, name="h", schedule=Schedule(delays=(0.0,), jitter=0.0))
        await runtime.accept_webhook("sandbox", live.webhook(BODY))
        await runtime.run_due("inbox")
        await runtime.run_due("outbox")
        for table in ("service_webhook_deliveries", "service_lifecycle_outbox", "service_event_deliveries"):
            live.rows(f"UPDATE {table} SET updated_at = {PAST}")
        await runtime.run_due("retention")
        if outcome == "dead":
            ((row,),) = live.rows("SELECT id FROM service_webhook_deliveries")
            assert (await runtime.replay(row)).handlers == 1
        await runtime.drain()
        assert bodies == [BODY]


async def test_key_of_any_length_is_answered_once(on_disk, monkeypatch):
    """PostgreSQL refuses what is longer than a third of a page in an index."""
    async with on_disk.open() as runtime:
        monkeypatch.setitem(runtime._core.verifiers, "sandbox", TokenVerifier(None))
        handler, ran = counting(HttpResponse(201))
        await runtime.on_request("command", "sandbox", handler)
        sent = keyed(idempotency_key=secrets.token_hex(3500))
        assert (await runtime.receive("command", "sandbox", sent)).status == 201
        assert (await runtime.receive("command", "sandbox", sent)).status == 201
        assert len(ran) == 1


@pytest.mark.parametrize("id", ["%00", "a%00b", "%0a", "%7f"])
async def test_id_in_an_url_that_no_column_holds_is_nobody(on_disk, id):
    async def body():
        yield BODY

    async with on_disk.open() as runtime:
        sent = on_disk.webhook(BODY)
        for path in (f"/webhooks/{id}", f"/webhooks/sandbox/{id}", f"/surfaces/command/{id}"):
            request = WebRequest(
                method="POST", target=path, path=path, headers=sent.headers, body=body, scheme="http", native=None
            )
            assert (await answer(runtime, request, Site())).status == 404, path


@pytest.mark.parametrize("id", ["order:17:paid", " ", ""])
async def test_event_whose_id_would_not_be_found_again_is_refused(either, id):
    """An item of the outbox is EVENT:HANDLER: of such an event none would ever be settled."""

    async def emits(event, context):
        made = Event(
            id=id,
            name="order.paid",
            provider_id="sandbox",
            scope=Scope("org", "o"),
            connection_id=None,
            occurred_at=either.clock.now(),
        )
        return Handled(events=(made,))

    async with either.open() as runtime:
        await runtime.on("webhook.*", emits, name="emits", schedule=Schedule(delays=()))
        await runtime.accept_webhook("sandbox", either.webhook(BODY))
        assert (await runtime.drain()).failed == 1
        ((name, status, error),) = [
            (item.name, item.status, item.error) for item in (await runtime._core.store.queues.list("outbox")).items
        ]
        assert (name, status) == ("webhook.item.created", "dead")
        assert "An event's id is not blank and has no colon" in error


class FoundVerifier:
    """Another's scheme, which takes what it finds as it is."""

    def __init__(self, **found):
        self.found = {"delivery_id": "d", "event": "e", **found}

    def verify(self, request, *, secrets, now):
        yield from ()
        return Verified(**self.found)


@pytest.mark.parametrize("id", ["", " \n", "a\x00b", "\ud800", "i" * 256])
async def test_delivery_without_an_id_that_can_be_kept_is_rejected(on_disk, monkeypatch, id):
    """P62, P68: without an id all deliveries would be repetitions of the first, which ends up alone."""
    async with on_disk.open() as runtime:
        monkeypatch.setitem(runtime._core.verifiers, "sandbox", FoundVerifier(delivery_id=id))
        with pytest.raises(WebhookRejected, match="no id"):
            await runtime.accept_webhook("sandbox", on_disk.webhook(BODY))
        assert (await runtime.deliveries()).items == ()


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "t" * 9000])
async def test_delivery_is_kept_whatever_a_scheme_says_that_it_is_about(on_disk, monkeypatch, text):
    async with on_disk.open() as runtime:
        found = FoundVerifier(event=text, channel=text, resource=text)
        monkeypatch.setitem(runtime._core.verifiers, "sandbox", found)
        names = []

        async def handler(event, context):
            names.append((event.name, event.payload["channel"], event.payload["resource"]))

        await runtime.on("webhook.*", handler, name="h")
        await runtime.accept_webhook("sandbox", on_disk.webhook(BODY))
        await runtime.drain()
        assert names == [("webhook.unknown", "", "")]


async def test_answer_that_is_too_large_does_not_tell_the_provider_that_nobody_is_there(app):
    """A sender that reads 404 may take the endpoint for gone."""

    async def body():
        yield BODY

    async with app.open() as runtime:
        await runtime.on_request("webhook", "sandbox", counting(HttpResponse(200, (), b"a" * LARGEST_ANSWER))[0])
        request = WebRequest(
            method="POST",
            target="/webhooks/sandbox",
            path="/webhooks/sandbox",
            headers=app.webhook(BODY).headers,
            body=body,
        )
        assert (await answer(runtime, request, Site())).status == 503


async def test_key_that_has_no_room_in_an_index_is_no_failure_of_the_database(on_disk):
    """P96: what fails for ever may not be told as what passes, or it is tried for ever."""
    async with on_disk.open() as runtime:
        job = NewJob(
            id=uuid7(on_disk.clock),
            kind="kit",
            idempotency_key=secrets.token_hex(5000),
            created_at=on_disk.clock.now(),
        )
        with suppress(BadInput):
            await runtime._core.store.queues.enqueue(job)
        other = evolve(job, id=uuid7(on_disk.clock), idempotency_key="k")
        assert await runtime._core.store.queues.enqueue(other) == (other.id, True)
