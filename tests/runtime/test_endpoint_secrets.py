"""Endpoints of customers: their secrets, and what may be one."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from standardwebhooks import Webhook, WebhookVerificationError

import go_services_auth_jwt.plugin as auth_jwt
from go_services_auth_jwt.webhook_ed25519 import Ed25519Verifier
from go_services_core.clock import SystemClock
from go_services_core.errors import (
    BadInput,
    FacetMissing,
    KeyInvalid,
    NotFound,
    ServicesError,
)
from go_services_core.protocols import Rejected, Verified
from go_services_core.secret import SecretStr
from go_services_core.testing.memory import MemoryStore
from go_services_core.webhook_specs import StandardKeyWebhook

from .conftest import App
from .receivers import Receiver
from .test_outgoing_webhooks import customer, events_of, memory, opened, verdict_of

__all__ = ["customer", "memory"]


# --- secrets --------------------------------------------------------------------------------------------------------


async def test_two_secrets_sign_while_they_overlap(memory: App, customer: Receiver) -> None:
    app = memory
    app.clock.advance((SystemClock().now() - app.clock.now()).total_seconds())
    async with opened(app, customer) as runtime:
        first = await runtime.add_endpoint(customer.url)
        second = await runtime.rotate_endpoint_secret(first.endpoint.id, overlap=100)
        assert second.secret != first.secret
        assert second.endpoint.version == 2

        async def accepted() -> list[bool]:
            customer.got.clear()
            answer = await runtime.test_endpoint(first.endpoint.id)
            assert (answer.ok, answer.status) == (True, 200)
            (request,) = customer.got
            assert json.loads(request.body)["type"] == "endpoint.test"
            found = []
            for one in (first, second, third):
                try:
                    # As if it had been sent now: the package allows five minutes.
                    Webhook(one.secret.reveal()).verify(request.body, dict(request.headers))
                except WebhookVerificationError:
                    found.append(False)
                else:
                    found.append(True)
            return found

        third = second
        assert await accepted() == [True, True, True]
        third = await runtime.rotate_endpoint_secret(first.endpoint.id, overlap=60)
        assert await accepted() == [False, True, True]
        app.clock.advance(61)
        assert await accepted() == [False, False, True]
        (signature,) = (one.header("webhook-signature") for one in customer.got)
        assert signature is not None
        assert len(signature.split()) == 1
        fourth = await runtime.rotate_endpoint_secret(first.endpoint.id, overlap=0)
        third = fourth
        assert await accepted() == [False, False, True]
        for overlap in (-1.0, float("nan"), 31 * 86_400.0):
            with pytest.raises(BadInput, match="30 days"):
                await runtime.rotate_endpoint_secret(first.endpoint.id, overlap=overlap)


async def test_secrets_are_sealed_and_nowhere_to_be_read(app: App, customer: Receiver) -> None:
    async with opened(app, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        rotated = await runtime.rotate_endpoint_secret(added.endpoint.id)
        found = await runtime.endpoint(added.endpoint.id)
        secrets = [one.secret.reveal().removeprefix("whsec_") for one in (added, rotated)]
        assert all(len(secret) >= 32 for secret in secrets)
        for secret in secrets:
            assert secret not in repr((added, rotated, found))
            assert secret.encode() not in app.content()


async def test_key_pair_signs_v1a(memory: App, customer: Receiver) -> None:
    """With the plugin for asymmetric keys; the receiver has the public key alone."""
    app = memory
    app.clock.advance((SystemClock().now() - app.clock.now()).total_seconds())
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    pair = SecretStr("whsk_" + b64encode(private.private_bytes_raw() + public).decode())
    async with opened(app, customer) as runtime:
        with pytest.raises(KeyInvalid, match="auth-jwt"):
            await runtime.add_endpoint(customer.url, secret=pair)
    app.plugins["auth-jwt"] = auth_jwt
    async with opened(app, customer) as runtime:
        added = await runtime.add_endpoint(customer.url, secret=pair)
        assert (await runtime.test_endpoint(added.endpoint.id)).ok
        (request,) = customer.got
        assert str(request.header("webhook-signature")).startswith("v1a,")
        key = SecretStr("whpk_" + b64encode(public).decode())
        verifier = Ed25519Verifier(StandardKeyWebhook())
        assert isinstance(verdict_of(verifier, request, key), Verified)
        assert isinstance(verdict_of(verifier, evolve(request, body=b"{}"), key), Rejected)


async def test_secret_that_exists_already_is_taken(memory: App, customer: Receiver) -> None:
    async with opened(memory, customer) as runtime:
        given = SecretStr("whsec_" + "QUFB" * 10)
        added = await runtime.add_endpoint(customer.url, secret=given)
        assert added.secret == given
        for wrong in ("whsec_QUFB", "plain-text-of-a-secret", "whsec_" + "QUFB" * 40):
            with pytest.raises(KeyInvalid) as refused:
                await runtime.add_endpoint(customer.url, secret=SecretStr(wrong))
            assert wrong not in str(refused.value)
        assert len((await runtime.endpoints()).items) == 1


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://customer.example/hooks",
        "ftp://customer.example/hooks",
        "customer.example",
        "https://",
        "https://user:pass@customer.example/hooks",
        "https://customer.example/hooks#part",
        "https://customer.example/a b",
        "https://customer.example/\\evil",
        "https://[::1/hooks",
        "https://customer.example/" + "x" * 2100,
        "",
    ],
)
async def test_url_that_is_none_is_refused(memory: App, url: str) -> None:
    async with memory.open() as runtime:
        with pytest.raises(BadInput) as refused:
            await runtime.add_endpoint(url)
        assert refused.value.field == "url"
        assert "user:pass" not in str(refused.value)
        assert (await runtime.endpoints()).items == ()


async def test_bad_input_changes_nothing(memory: App) -> None:
    async with memory.open() as runtime:
        for events in ((), ("",), ("a b",), ("x" * 300,), tuple(f"e{number}" for number in range(101))):
            with pytest.raises(BadInput) as refused:
                await runtime.add_endpoint("https://customer.example", events=events)
            assert refused.value.field == "events"
        dry = await runtime.add_endpoint("https://customer.example", dry_run=True)
        with pytest.raises(NotFound):
            await runtime.endpoint(dry.endpoint.id)
        assert (await runtime.endpoints()).items == ()
        added = await runtime.add_endpoint("https://customer.example", events="connection.*")
        assert added.endpoint.events == ("connection.*",)
        with pytest.raises(BadInput):
            await runtime.update_endpoint(added.endpoint.id, url="http://customer.example")
        assert await runtime.endpoint(added.endpoint.id) == added.endpoint
        changed = await runtime.update_endpoint(
            added.endpoint.id, url="https://new.example", events=("*",), description="d", ordered=True
        )
        assert (changed.url, changed.events, changed.description, changed.ordered, changed.version) == (
            "https://new.example",
            ("*",),
            "d",
            True,
            2,
        )
        assert await events_of(runtime) == ["endpoint.created", "endpoint.updated"]


async def test_store_without_endpoints_is_named(app: App) -> None:
    class Without(MemoryStore):
        def __init__(self) -> None:
            super().__init__(clock=app.clock)
            del self.endpoints

    app.store = Without()
    async with app.open() as runtime:
        with pytest.raises(FacetMissing, match="endpoints"):
            await runtime.add_endpoint("https://customer.example")
        await runtime.drain()


async def test_settings_are_checked(app: App) -> None:
    for name, value in (
        ("timeout", 0),
        ("delays", [-1.0]),
        ("concurrency", 0),
        ("disable_after", 0),
        ("open_after", 0),
    ):
        with pytest.raises(ServicesError, match=f"{name} must be"):
            async with app.open(settings={f"endpoints.{name}": value}):
                pass
