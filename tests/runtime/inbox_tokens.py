"""A webhook scheme of a token and headers, for tests of what becomes of deliveries."""

from __future__ import annotations

import hmac
import sys
from typing import ClassVar

from attrs import frozen

from go_services_core import InboundRequest, Ref, hookimpl
from go_services_core.clock import uuid7
from go_services_core.delivery_specs import InboxPolicy
from go_services_core.protocols import Rejected, Verified
from go_services_core.resources import Subscription
from go_services_core.runtime import bindings
from go_services_core.specs import WebhookSchemeSpec

from .conftest import App


@frozen
class Token:
    """A delivery that carries a token; channel, resource and event stand in headers."""

    scheme: ClassVar[str] = "token-kit"


class TokenVerifier:
    def __init__(self, record):
        pass

    def channel(self, request):
        return request.header("x-channel")

    def verify(self, request, *, secrets, now):
        yield from ()
        given = (request.header("x-token") or "").encode()
        if not any(hmac.compare_digest(given, secret.reveal().encode()) for secret in secrets):
            return Rejected(reason="the token is wrong")
        channel = request.header("x-channel") or ""
        return Verified(
            delivery_id=f"{channel}:{request.header('x-id')}",
            event=request.header("x-event") or "changed",
            channel=channel,
            resource=request.header("x-resource") or "",
            body=b"opened " + request.body if request.header("x-sealed") else None,
        )


class Scheme:
    GS_CONTRACT = 1

    @hookimpl
    def gs_webhook_schemes(self):
        sys.modules["made_token_scheme"] = sys.modules[__name__]
        return [WebhookSchemeSpec(id="token-kit", verifier=Ref("made_token_scheme:TokenVerifier"), record=Token)]


def with_tokens(app: App, **policy) -> App:
    """The sandbox's provider with that scheme, and with this policy of its record."""
    app.plugins["scheme"] = Scheme()
    app.set(webhook=Token(), inbox=InboxPolicy(**policy))
    app.settings["providers.sandbox"]["webhook_secrets"] = ["of-the-provider"]
    return app


def sent(token, id="1", body=b"{}", **headers):
    pairs = {"X-Token": token, "X-Id": id, **{f"X-{name}": value for name, value in headers.items()}}
    return InboundRequest("POST", "/hooks?k=v", tuple(pairs.items()), body)


async def subscribed(runtime, connection, channel, token=None, status="active"):
    core = runtime._core
    id = uuid7(core.clock)
    sealed = None
    if token is not None:
        binding = bindings.subscription(id, connection.provider_id, connection.scope)
        sealed = await core.sealer.seal(token.encode(), binding)
    now = core.clock.now()
    made = await core.store.resources.save_subscription(
        Subscription(
            id=id,
            connection_id=connection.id,
            provider_id=connection.provider_id,
            resource_type="calendar",
            resource_id=channel,
            channel_id=channel,
            callback_url="https://app.example/hooks",
            verification=sealed,
            created_at=now,
            updated_at=now,
        ),
        expected_version=None,
    )
    if status != "active":
        await core.store.resources.set_subscription_status(made.id, expected=["active"], status=status)
    return made


def collector(runtime):
    got = []

    async def handler(event, context):
        got.append((event, (await context.request()).body))

    return got, handler
