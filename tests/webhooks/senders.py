"""How vendors make a delivery, written out from their pages and apart from what verifies it."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from urllib.parse import parse_qsl

from attrs import evolve

from go_services_core.http import Headers, InboundRequest
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.webhook_specs import BasicWebhook, BearerWebhook, StandardWebhook, TokenWebhook
from go_services_core.webhooks import vendors
from go_services_core.webhooks.hmac import HmacVerifier
from go_services_core.webhooks.shared import BasicVerifier, BearerVerifier, TokenVerifier
from go_services_core.webhooks.standard import sign

JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def post(body: bytes, *headers: tuple[str, str], target: str = "/hooks") -> InboundRequest:
    return InboundRequest("POST", target, (JSON, *headers), body)


def hexed(secret: SecretStr, message: bytes) -> str:
    return hmac.new(secret.reveal().encode(), message, sha256).hexdigest()


def github(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    signature = ("X-Hub-Signature-256", "sha256=" + hexed(secret, body))
    return post(body, ("X-GitHub-Delivery", "d-1"), ("X-GitHub-Event", "push"), signature)


def stripe(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    stamp = int(at.timestamp())
    signature = hexed(secret, f"{stamp}.".encode() + body)
    return post(body, ("Stripe-Signature", f"t={stamp},v1={'0' * 64},v1={signature},v0={'1' * 64}"))


def slack(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    stamp = str(int(at.timestamp()))
    signature = "v0=" + hexed(secret, f"v0:{stamp}:".encode() + body)
    return post(body, ("X-Slack-Request-Timestamp", stamp), ("X-Slack-Signature", signature))


def shopify(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    digest = b64encode(hmac.new(secret.reveal().encode(), body, sha256).digest()).decode()
    return post(
        body, ("X-Shopify-Topic", "orders/create"), ("X-Shopify-Webhook-Id", "w-1"), ("X-Shopify-Hmac-Sha256", digest)
    )


def meta(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    return post(body, ("X-Hub-Signature-256", "sha256=" + hexed(secret, body)))


def tiktok(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    stamp = int(at.timestamp())
    return post(body, ("TikTok-Signature", f"t={stamp},s={hexed(secret, f'{stamp}.'.encode() + body)}"))


def twilio(body: bytes, at: datetime, secret: SecretStr, *, target: str = "/hooks?a=1") -> InboundRequest:
    pairs = sorted(set(parse_qsl(body.decode("latin-1"), keep_blank_values=True)))
    text = "https://app.example.com" + target + "".join(name + value for name, value in pairs)
    digest = b64encode(hmac.new(secret.reveal().encode(), text.encode(), "sha1").digest()).decode()
    return InboundRequest("POST", target, (FORM, ("X-Twilio-Signature", digest)), body)


def standard(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    return post(body, *sign(body, id="msg_1", timestamp=at, secrets=[secret]))


def shown(*headers: tuple[str, str], header: str) -> Callable[[bytes, datetime, SecretStr], InboundRequest]:
    def send(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
        return post(body, ("X-Id", "i-1"), *headers, (header, secret.reveal()))

    return send


def authorized(scheme: str) -> Callable[[bytes, datetime, SecretStr], InboundRequest]:
    def send(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
        value = secret.reveal() if scheme == "Bearer" else b64encode(secret.reveal().encode()).decode()
        return post(body, ("X-Id", "i-1"), ("Authorization", f"{scheme} {value}"))

    return send


CHANNEL: Headers = (
    ("X-Goog-Channel-ID", "chan-1"),
    ("X-Goog-Message-Number", "7"),
    ("X-Goog-Resource-ID", "res-1"),
    ("X-Goog-Resource-State", "exists"),
)

SUBJECTS = {
    "github": WebhookSubject(
        verifier=HmacVerifier,
        record=vendors.GITHUB,
        send=github,
        timed=False,
        needs=("X-Hub-Signature-256", "X-GitHub-Delivery"),
    ),
    "stripe": WebhookSubject(verifier=HmacVerifier, record=vendors.STRIPE, send=stripe, needs=("Stripe-Signature",)),
    "slack": WebhookSubject(
        verifier=HmacVerifier,
        record=vendors.SLACK,
        send=slack,
        needs=("X-Slack-Signature", "X-Slack-Request-Timestamp"),
    ),
    "shopify": WebhookSubject(
        verifier=HmacVerifier, record=vendors.SHOPIFY, send=shopify, timed=False, needs=("X-Shopify-Hmac-Sha256",)
    ),
    "meta": WebhookSubject(
        verifier=HmacVerifier, record=vendors.META, send=meta, timed=False, needs=("X-Hub-Signature-256",)
    ),
    "tiktok": WebhookSubject(verifier=HmacVerifier, record=vendors.TIKTOK, send=tiktok, needs=("TikTok-Signature",)),
    "twilio": WebhookSubject(
        verifier=HmacVerifier,
        record=evolve(vendors.TWILIO, public_url="https://app.example.com"),
        send=twilio,
        timed=False,
        covers_bytes=False,
        body=b"MessageSid=SM1&MessageStatus=sent&Body=Hi",
        needs=("X-Twilio-Signature",),
    ),
    "standard": WebhookSubject(
        verifier=HmacVerifier,
        record=StandardWebhook(),
        send=standard,
        secret=SecretStr("whsec_" + b64encode(b"k" * 32).decode()),
        other=SecretStr("whsec_" + b64encode(b"o" * 32).decode()),
        needs=("webhook-id", "webhook-timestamp", "webhook-signature"),
    ),
    "token": WebhookSubject(
        verifier=TokenVerifier,
        record=TokenWebhook(header="X-Token", id_header="X-Id"),
        send=shown(header="X-Token"),
        timed=False,
        covers_body=False,
        needs=("X-Token",),
    ),
    "google_channel": WebhookSubject(
        verifier=TokenVerifier,
        record=vendors.GOOGLE_CHANNEL,
        send=shown(*CHANNEL, header="X-Goog-Channel-Token"),
        timed=False,
        covers_body=False,
        needs=("X-Goog-Channel-Token", "X-Goog-Channel-ID", "X-Goog-Message-Number"),
    ),
    "bearer": WebhookSubject(
        verifier=BearerVerifier,
        record=BearerWebhook(id_header="X-Id"),
        send=authorized("Bearer"),
        timed=False,
        covers_body=False,
        needs=("Authorization",),
    ),
    "basic": WebhookSubject(
        verifier=BasicVerifier,
        record=BasicWebhook(id_header="X-Id"),
        send=authorized("Basic"),
        secret=SecretStr("hooks:kit-webhook-secret"),
        other=SecretStr("hooks:kit-another-secret"),
        timed=False,
        covers_body=False,
        needs=("Authorization",),
    ),
}
