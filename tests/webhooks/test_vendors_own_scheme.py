"""A scheme that is one vendor's alone comes through the same door: here one that encrypts its bodies."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar

from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core import ProviderSpec, Ref, WebhookSchemeSpec, hookimpl
from go_services_core.auth_specs import ApiKey
from go_services_core.http import InboundRequest
from go_services_core.protocols import FlowStep, Rejected, Verdict, Verified
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import DeliveryFields
from go_services_core.webhooks import reading

from .driving import NOW, verified


@frozen(kw_only=True)
class SealedWebhook(DeliveryFields):
    """A JSON body ``{"encrypted_data": …, "nonce": …}``, base64 of AES-256-GCM under the SHA-256 of a secret."""

    scheme: ClassVar[str] = "acme-sealed"
    id_field: str | None = "id"
    event_field: str | None = "type"


class SealedVerifier:
    def __init__(self, record: SealedWebhook) -> None:
        reading.check_fields(record)
        self._record = record

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        yield from ()
        envelope = reading.read_json(request.body)
        try:
            nonce = b64decode(reading.find(envelope, "nonce", integers=False), validate=True)
            sealed = b64decode(reading.find(envelope, "encrypted_data", integers=False), validate=True)
        except ValueError:
            return Rejected(reason="the body is not sealed")
        if len(nonce) != 12 or set(envelope) != {"nonce", "encrypted_data"}:
            return Rejected(reason="the body is not sealed")
        for secret in secrets:
            try:
                key = hashlib.sha256(secret.reveal().encode()).digest() if secret else b""
                opened = AESGCM(key).decrypt(nonce, sealed, None) if key else None
            except InvalidTag:
                continue
            if opened is not None:
                inner = InboundRequest(request.method, request.target, request.headers, opened)
                return reading.read(self._record, inner, now=now, body=opened)
        return Rejected(reason="no live secret opens the body")


def send(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    nonce = hashlib.sha256(b"nonce" + body).digest()[:12]
    sealed = AESGCM(hashlib.sha256(secret.reveal().encode()).digest()).encrypt(nonce, body, None)
    outer = {"encrypted_data": b64encode(sealed).decode(), "nonce": b64encode(nonce).decode()}
    return InboundRequest("POST", "/hooks", (), json.dumps(outer).encode())


class TestSealed(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=SealedVerifier, record=SealedWebhook(), send=send, timed=False, covers_bytes=False
        )


class AcmePlugin:
    @hookimpl
    def gs_webhook_schemes(self) -> Iterable[WebhookSchemeSpec]:
        return (WebhookSchemeSpec(id="acme-sealed", verifier=Ref(f"{__name__}:SealedVerifier"), record=SealedWebhook),)

    @hookimpl
    def gs_providers(self) -> Iterable[ProviderSpec]:
        return (ProviderSpec(id="acme", name="Acme", auth=(ApiKey(),), webhook=SealedWebhook()),)


def test_handlers_get_the_body_that_the_scheme_opened() -> None:
    secret = SecretStr("acme-sealed-secret")
    body = b'{"id": "lead-1", "type": "lead.created"}'
    found = verified(SealedVerifier(SealedWebhook()), send(body, NOW, secret), ["other", secret])
    assert found == Verified(delivery_id="lead-1", event="lead.created", body=body)
    assert "lead-1" not in repr(send(body, NOW, secret))
    assert b"lead-1" not in send(body, NOW, secret).body
