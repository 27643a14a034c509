"""Deliveries that are signed with Ed25519."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from go_services_auth_jwt.jose import JwtJose
from go_services_auth_jwt.webhook_ed25519 import Ed25519Verifier
from go_services_core.errors import KeyInvalid
from go_services_core.http import InboundRequest
from go_services_core.protocols import Verified
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import StandardKeyWebhook
from go_services_core.webhooks import vendors
from go_services_core.webhooks.standard import sign

from .keys import NOW
from .webhook_verdicts import driven, reason


def pair(seed: bytes) -> tuple[SecretStr, SecretStr]:
    """Private and public key in the form of Standard Webhooks."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw()
    private = SecretStr("whsk_" + b64encode(seed + public).decode())
    return private, SecretStr("whpk_" + b64encode(public).decode())


PRIVATE, PUBLIC = pair(b"s" * 32)
OTHER, OTHER_PUBLIC = pair(b"o" * 32)
PUBLIC_OF = {PRIVATE.reveal(): PUBLIC, OTHER.reveal(): OTHER_PUBLIC}


def standard(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    return InboundRequest("POST", "/", sign(body, id="msg_1", timestamp=at, secrets=[secret], jose=JwtJose()), body)


class TestStandardKey(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=Ed25519Verifier,
            record=StandardKeyWebhook(),
            send=standard,
            secret=PRIVATE,
            other=OTHER,
            accepts=lambda secret: PUBLIC_OF[secret.reveal()],
            needs=("webhook-id", "webhook-timestamp", "webhook-signature"),
        )


def discord(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    stamp = str(int(at.timestamp()))
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.reveal()))
    headers = (
        ("X-Signature-Ed25519", key.sign(stamp.encode() + body).hex()),
        ("X-Signature-Timestamp", stamp),
    )
    return InboundRequest("POST", "/", headers, body)


def discord_public(secret: SecretStr) -> SecretStr:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.reveal()))
    return SecretStr(key.public_key().public_bytes_raw().hex())


class TestDiscord(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=Ed25519Verifier,
            record=vendors.DISCORD,
            send=discord,
            secret=SecretStr("11" * 32),
            other=SecretStr("22" * 32),
            accepts=discord_public,
            needs=("X-Signature-Ed25519", "X-Signature-Timestamp"),
        )


def test_one_delivery_carries_both_kinds_of_signature() -> None:
    secret = SecretStr("whsec_" + b64encode(os.urandom(32)).decode())
    headers = sign(b"{}", id="msg_1", timestamp=NOW, secrets=[secret, PRIVATE], jose=JwtJose())
    kinds = [one.partition(",")[0] for one in dict(headers)["webhook-signature"].split()]
    assert kinds == ["v1", "v1a"]
    request = InboundRequest("POST", "/", headers, b"{}")
    assert isinstance(driven(Ed25519Verifier(StandardKeyWebhook()), request, secrets=[PUBLIC]), Verified)


def test_a_private_key_needs_a_plugin_and_its_own_form() -> None:
    with pytest.raises(KeyInvalid, match="auth-jwt"):
        sign(b"", id="msg_1", timestamp=NOW, secrets=[PRIVATE])
    short = SecretStr("whsk_" + b64encode(b"k" * 32).decode())
    with pytest.raises(KeyInvalid, match="64 bytes"):
        sign(b"", id="msg_1", timestamp=NOW, secrets=[short], jose=JwtJose())


def test_an_id_with_a_full_stop_is_not_verified() -> None:  # P65
    good = standard(b"{}", NOW, PRIVATE)
    headers = tuple((name, "msg.1" if name == "webhook-id" else value) for name, value in good.headers)
    found = driven(Ed25519Verifier(StandardKeyWebhook()), evolve(good, headers=headers), secrets=[PUBLIC])
    assert "joiner" in reason(found)
