"""A scheme that is one vendor's alone comes through the same door: here one that encrypts its bodies."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ProviderSpec, Ref, Runtime, WebhookSchemeSpec, hookimpl
from go_services_core.auth_specs import ApiKey
from go_services_core.config import Config
from go_services_core.errors import WebhookRejected
from go_services_core.http import InboundRequest
from go_services_core.plugins import PluginManager
from go_services_core.protocols import FlowStep, Rejected, Verdict, Verified
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import DeliveryFields
from go_services_core.webhooks import reading
from go_services_secrets_appkey.key import generate_key

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
    """A vendor's plugin: one provider, and the scheme that only it needs."""

    @hookimpl
    def gs_webhook_schemes(self) -> Iterable[WebhookSchemeSpec]:
        return (WebhookSchemeSpec(id="acme-sealed", verifier=Ref(f"{__name__}:SealedVerifier"), record=SealedWebhook),)

    @hookimpl
    def gs_providers(self) -> Iterable[ProviderSpec]:
        return (ProviderSpec(id="acme", name="Acme", auth=(ApiKey(),), webhook=SealedWebhook()),)


async def test_a_plugins_scheme_is_chosen_by_its_record(tmp_path: Path) -> None:
    (tmp_path / "hook.secret").write_text("acme-sealed-secret")
    config = Config.load(
        None,
        environ={},
        arguments={
            "store.url": f"sqlite:///{tmp_path}/a.db",
            "secrets.appkey.key": generate_key(),
            "providers.acme.webhook_secrets": [f"file:{tmp_path}/hook.secret"],
        },
    )
    manager = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http, "acme": AcmePlugin()})
    async with Runtime.open(config, plugins=manager, migrate=True) as runtime:
        good = send(b'{"id": "lead-1", "type": "lead.created"}', datetime.now(UTC), SecretStr("acme-sealed-secret"))
        accepted = await runtime.accept_webhook("acme", good)
        assert accepted.id
        assert (await runtime.accept_webhook("acme", good)).duplicate
        found = await runtime.verify_webhook("acme", good)
        assert isinstance(found, Verified)
        assert found.event == "lead.created"
        other = send(b"{}", datetime.now(UTC), SecretStr("another-secret"))
        with pytest.raises(WebhookRejected, match="no live secret opens the body"):
            await runtime.accept_webhook("acme", other)


def test_handlers_get_the_body_that_the_scheme_opened() -> None:
    secret = SecretStr("acme-sealed-secret")
    body = b'{"id": "lead-1", "type": "lead.created"}'
    found = verified(SealedVerifier(SealedWebhook()), send(body, NOW, secret), ["other", secret])
    assert found == Verified(delivery_id="lead-1", event="lead.created", body=body)
    assert "lead-1" not in repr(send(body, NOW, secret))
    assert b"lead-1" not in send(body, NOW, secret).body
