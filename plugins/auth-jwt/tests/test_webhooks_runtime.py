"""Pushes with a token, through the runtime, against an issuer's key set on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwk as jose_jwk
from joserfc import jwt as jose_jwt

from go_services_core import InboundRequest, Runtime
from go_services_core.errors import ProviderUnavailable, WebhookRejected
from go_services_secrets_appkey.key import generate_key

from .keys import pem

CONFIG = """
[store]
url = "sqlite:///go-services.db"

[secrets.appkey]
key = "file:go-services.key"

[providers.mail]
auth = {{ kind = "api_key" }}
webhook_url = "https://app.example.com/"

[providers.mail.webhook]
scheme = "oidc"
audience = "{{webhook_url}}/push"
email = "pusher@project.iam.example"
issuers = ["https://issuer.example"]
jwks_url = "{url}/certs"
event_field = "message.attributes.kind"

[egress.allow]
mail = ["{address}"]
"""
BODY = json.dumps({"message": {"messageId": "m-1", "data": "e30=", "attributes": {"kind": "mail.changed"}}}).encode()


class Issuer:
    """Publishes the keys that it has at the moment."""

    def __init__(self) -> None:
        self.keys = [0]
        self.fails = False
        self.asked = 0
        self.url = ""

    async def certs(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.fails:
            return web.Response(status=503)
        return web.json_response({"keys": [key(which).as_dict(private=False) for which in self.keys]})


def key(which: int) -> Any:
    return jose_jwk.RSAKey.import_key(pem("RS256", which), {"kid": f"key-{which}", "alg": "RS256", "use": "sig"})


def pushed(which: int = 0, **changes: Any) -> InboundRequest:
    now = int(time.time())
    claims = {
        "iss": "https://issuer.example",
        "aud": "https://app.example.com/push",
        "email": "pusher@project.iam.example",
        "email_verified": True,
        "iat": now,
        "exp": now + 600,
        **changes,
    }
    token = jose_jwt.encode({"alg": "RS256", "kid": f"key-{which}"}, claims, key(which))
    return InboundRequest("POST", "/push", (("Authorization", f"Bearer {token}"),), BODY)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    server, app = Issuer(), web.Application()
    app.add_routes([web.get("/certs", server.certs)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def runtime(issuer: Issuer, tmp_path: Path) -> AsyncIterator[Runtime]:
    text = CONFIG.format(url=issuer.url, address=issuer.url.removeprefix("http://"))
    (tmp_path / "go-services.toml").write_text(text, "utf-8")
    (tmp_path / "go-services.key").write_text(generate_key().reveal(), "ascii")
    async with Runtime.open(tmp_path / "go-services.toml", migrate=True) as opened:
        yield opened


async def test_pushes_are_accepted_with_one_fetch_of_the_keys(runtime: Runtime, issuer: Issuer) -> None:
    for duplicate in (False, True, True):
        assert (await runtime.accept_webhook("mail", pushed())).duplicate is duplicate
    assert issuer.asked == 1
    with pytest.raises(WebhookRejected, match="audience"):
        await runtime.accept_webhook("mail", pushed(aud="https://app.example.com/other"))
    assert issuer.asked == 1


async def test_a_new_key_of_the_issuer_is_found(runtime: Runtime, issuer: Issuer) -> None:
    await runtime.accept_webhook("mail", pushed())
    issuer.keys = [0, 1]
    assert (await runtime.accept_webhook("mail", pushed(1))).id
    assert issuer.asked == 2
    with pytest.raises(WebhookRejected):
        await runtime.accept_webhook("mail", pushed(2))


async def test_while_the_keys_cannot_be_read_the_sender_shall_try_again(runtime: Runtime, issuer: Issuer) -> None:
    issuer.fails = True
    with pytest.raises(ProviderUnavailable):
        await runtime.accept_webhook("mail", pushed())
