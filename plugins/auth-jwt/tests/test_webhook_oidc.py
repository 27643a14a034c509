"""Deliveries that carry an OpenID Connect token."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from joserfc import jwk as jose_jwk
from joserfc import jws as jose_jws
from joserfc import jwt as jose_jwt

from go_services_auth_jwt.webhook_oidc import OidcVerifier
from go_services_core.errors import ProviderUnavailable
from go_services_core.http import InboundRequest
from go_services_core.protocols import FlowStep, Jwks, Rejected, Verified
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import OidcWebhook

from .keys import NOW, pem
from .webhook_verdicts import driven, reason

PUSH = OidcWebhook(audience="https://app.example.com/push", email="pusher@project.iam.gserviceaccount.com")
MESSAGE = {
    "message": {
        "data": b64encode(b'{"emailAddress": "a@b.example", "historyId": 9}').decode(),
        "messageId": "136969346945",
        "attributes": {"kind": "mail.changed"},
    },
    "subscription": "projects/p/subscriptions/s",
}
BODY = json.dumps(MESSAGE).encode()


def rsa_key(which: int = 0) -> Any:
    return jose_jwk.RSAKey.import_key(pem("RS256", which), {"kid": f"key-{which}", "use": "sig", "alg": "RS256"})


def key_set(*which: int) -> dict[str, Any]:
    return {"keys": [rsa_key(one).as_dict(private=False) for one in which]}


CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": PUSH.audience,
    "azp": "113774264463038321964",
    "sub": "113774264463038321964",
    "email": PUSH.email,
    "email_verified": True,
    "iat": int(NOW.timestamp()) - 10,
    "exp": int(NOW.timestamp()) + 3590,
}


def pushed(
    claims: dict[str, Any] | None = None, *, key: int = 0, body: bytes = BODY, header: dict[str, Any] | None = None
) -> InboundRequest:
    """A push whose token another implementation (joserfc) signed."""
    head = {"alg": "RS256", "kid": f"key-{key}", **(header or {})}
    token = jose_jwt.encode(head, CLAIMS if claims is None else claims, rsa_key(key))
    return InboundRequest("POST", "/push", (("Authorization", f"Bearer {token}"),), body)


def with_keys(*which: int) -> Any:
    def answers(step: FlowStep) -> Any:
        assert isinstance(step, Jwks)
        assert step.url == "https://www.googleapis.com/oauth2/v3/certs"
        return key_set(*which)

    return answers


class TestOidc(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=OidcVerifier,
            record=PUSH,
            send=lambda body, at, secret: pushed(body=body),
            body=BODY,
            answer=with_keys(0),
            covers_body=False,
            timed=False,
            keyed=False,
            needs=("Authorization",),
        )


def test_a_push_of_pubsub_is_verified_and_its_data_decoded() -> None:
    """docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions"""
    record = evolve(PUSH, event_field="message.attributes.kind", resource_field="data.emailAddress")
    assert driven(OidcVerifier(record), pushed(), with_keys(0)) == Verified(
        delivery_id="136969346945",
        event="mail.changed",
        resource="a@b.example",
        body=b'{"emailAddress": "a@b.example", "historyId": 9}',
    )
    whole = driven(OidcVerifier(evolve(PUSH, data_field=None)), pushed(), with_keys(0))
    assert isinstance(whole, Verified)
    assert whole.body is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example"}, "issuer"),
        ({"aud": "https://other.example/push"}, "audience"),
        ({"aud": [PUSH.audience]}, "audience"),
        ({"email": "other@project.iam.gserviceaccount.com"}, "another account"),
        ({"email_verified": False}, "another account"),
        ({"email_verified": "true"}, "another account"),
        ({"email": None}, "another account"),
        ({"exp": int(NOW.timestamp()) - 61}, "over its time"),
        ({"iat": int(NOW.timestamp()) + 61}, "future"),
        ({"exp": None}, "does not say"),
        ({"iat": "now"}, "does not say"),
        ({"exp": True}, "does not say"),
    ],
)
def test_a_token_that_says_something_else_is_rejected(changes: dict[str, Any], why: str) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    key = rsa_key()
    token = jose_jws.serialize_compact({"alg": "RS256", "kid": "key-0"}, json.dumps(claims).encode(), key)
    request = InboundRequest("POST", "/push", (("Authorization", f"Bearer {token}"),), BODY)
    assert why in reason(driven(OidcVerifier(PUSH), request, with_keys(0)))


def test_the_key_set_is_read_again_once_for_a_key_that_it_lacks() -> None:
    asked: list[bool] = []

    def answers(step: Any) -> Any:
        asked.append(step.again)
        return key_set(1) if step.again else key_set(0)

    assert isinstance(driven(OidcVerifier(PUSH), pushed(key=1), answers), Verified)
    assert asked == [False, True]
    asked.clear()
    found = driven(OidcVerifier(PUSH), pushed(key=2), answers)
    assert asked == [False, True]
    assert "key" in reason(found)


def test_a_token_signed_by_somebody_else_is_rejected() -> None:
    forged = pushed(key=1, header={"kid": "key-0"})
    assert "signature" in reason(driven(OidcVerifier(PUSH), forged, with_keys(0)))
    unsigned = InboundRequest("POST", "/", (("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),), BODY)
    assert isinstance(driven(OidcVerifier(PUSH), unsigned, with_keys(0)), Rejected)


def test_keys_that_cannot_be_read_end_the_flow_so_that_the_sender_tries_again() -> None:
    flow = OidcVerifier(PUSH).verify(pushed(), secrets=(), now=NOW)
    assert next(flow) == Jwks(PUSH.jwks_url)
    with pytest.raises(ProviderUnavailable):
        flow.throw(ProviderUnavailable("down", upstream_status=503))


@pytest.mark.parametrize("data", ["!!!", "YQ", "\u00e4"])
def test_data_that_is_not_base64_is_rejected(data: str) -> None:
    body = json.dumps({"message": {"data": data, "messageId": "1"}}).encode()
    assert "base64" in reason(driven(OidcVerifier(PUSH), pushed(body=body), with_keys(0)))


@pytest.mark.parametrize(
    "change", [{"audience": ""}, {"email": ""}, {"issuers": ()}, {"algorithms": ("HS256",)}, {"leeway": float("nan")}]
)
def test_an_oidc_record_that_cannot_protect_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="OidcWebhook"):
        OidcVerifier(evolve(PUSH, **change))
