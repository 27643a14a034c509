"""Deliveries as a receiver meets them, checked by the core's own verifier."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import web

from go_services_core.errors import ConnectFailed
from go_services_core.http import InboundRequest
from go_services_core.protocols import Rejected, Verified
from go_services_core.secret import SecretStr
from go_services_core.webhooks.hmac import HmacVerifier


class Receiver:
    def __init__(self) -> None:
        self.seen: list[InboundRequest] = []
        self.status = 204
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        headers = tuple(request.headers.items())
        self.seen.append(InboundRequest(request.method, request.raw_path, headers, await request.read()))
        return web.Response(status=self.status, headers={"Location": self.url} if self.status == 307 else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hooks", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    yield receiver
    await runner.cleanup()


def verify(sandbox, request, secret=None, now=None):
    flow = HmacVerifier(sandbox.spec().webhook).verify(
        request, secrets=[secret or sandbox.webhook_secret], now=now or sandbox._clock.now()
    )
    with pytest.raises(StopIteration) as ended:
        next(flow)
    return ended.value.value


async def test_delivery_verifies_under_the_record_and_only_under_the_secret(sandbox, receiver, clock):
    assert await sandbox.deliver(receiver.url, event="item.created", data={"id": 1}, delivery_id="msg_1") == 204
    request = receiver.seen[0]
    verdict = verify(sandbox, request)
    assert verdict == Verified(delivery_id="msg_1", event="item.created", timestamp=clock.now())
    assert isinstance(verify(sandbox, request, secret=SecretStr("other")), Rejected)
    assert isinstance(verify(sandbox, request, now=clock.now() + timedelta(seconds=301)), Rejected)
    assert json.loads(request.body) == {"type": "item.created", "data": {"id": 1}}


async def test_signature_is_hmac_sha256_over_id_timestamp_and_body_with_the_secrets_own_bytes(sandbox, receiver):
    await sandbox.deliver(receiver.url, delivery_id="msg_1", timestamp=1_700_000_000)
    request = receiver.seen[0]
    message = b"msg_1.1700000000." + request.body
    digest = hmac.new(sandbox.webhook_secret.reveal().encode(), message, hashlib.sha256).digest()
    assert request.header("webhook-signature") == "v1," + b64encode(digest).decode()
    assert request.header("webhook-timestamp") == "1700000000"


async def test_repeated_delivery_has_the_same_id_and_body(sandbox, receiver, clock):
    for data in ({"b": 1, "a": 2}, {"a": 2, "b": 1}):
        await sandbox.deliver(receiver.url, data=data, delivery_id="msg_1")
        clock.advance(5)
    first, second = receiver.seen
    assert (first.body, first.header("webhook-id")) == (second.body, second.header("webhook-id"))
    assert isinstance(verify(sandbox, second), Verified)


async def test_deliveries_get_ids_of_their_own_unless_told(sandbox, receiver):
    await sandbox.deliver(receiver.url)
    await sandbox.deliver(receiver.url)
    ids = {request.header("webhook-id") for request in receiver.seen}
    assert len(ids) == 2
    assert None not in ids


async def test_delivery_can_be_forged_on_purpose(sandbox, receiver):
    await sandbox.deliver(receiver.url, secret=SecretStr("wrong"), headers={"X-Connection": "c1"})
    assert isinstance(verify(sandbox, receiver.seen[0]), Rejected)
    assert receiver.seen[0].header("X-Connection") == "c1"
    await sandbox.deliver(receiver.url, headers={"webhook-signature": "v1,AAAA"})
    assert receiver.seen[1].header("webhook-signature") == "v1,AAAA"


async def test_status_of_the_receiver_is_the_result_and_redirects_are_not_followed(sandbox, receiver):
    receiver.status = 503
    assert await sandbox.deliver(receiver.url) == 503
    receiver.status = 307
    assert await sandbox.deliver(receiver.url) == 307
    assert len(receiver.seen) == 2


async def test_delivery_to_nobody_is_a_typed_error(sandbox):
    with pytest.raises(ConnectFailed, match="cannot be reached"):
        await sandbox.deliver("http://127.0.0.1:1/hooks")


async def test_new_items_are_told_to_the_webhook_url_once(sandbox, client, receiver):
    sandbox.webhook_url = receiver.url
    headers = {"Authorization": f"Bearer {(await client.tokens())['access_token']}", "Idempotency-Key": "k1"}
    for _ in range(2):  # the second is a repetition under the same key
        made = await client.send("POST", "/items", json={"name": "lamp"}, headers=headers)
    assert [json.loads(one.body) for one in receiver.seen] == [{"type": "item.created", "data": made.json}]


async def test_item_is_made_also_where_nobody_takes_its_webhook(sandbox, client):
    sandbox.webhook_url = "http://127.0.0.1:1/hooks"
    headers = {"Authorization": f"Bearer {(await client.tokens())['access_token']}"}
    assert (await client.send("POST", "/items", json={"name": "lamp"}, headers=headers)).status == 201
