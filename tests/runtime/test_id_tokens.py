"""ID tokens of a consent and of a renewal: who signs in is believed only when everything verifies."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt as jose_jwt

from go_services_core import Runtime, SystemClock
from go_services_core.auth.id_token import subject
from go_services_core.auth_specs import DeviceCode, OAuth2Code
from go_services_core.errors import (
    AccountMismatch,
    ConfigError,
    JwtInvalid,
    JwtKeyUnknown,
    ProfileNotFound,
    ProviderUnavailable,
    ServicesError,
    TokenResponseInvalid,
)
from go_services_core.model import Connection
from go_services_core.secret import SecretStr

from .openid_server import OpenIdApp, OpenIdServer, serving, signing_key


class Clock(SystemClock):
    """The machine's clock, whose monotonic part a test may move."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
async def server() -> AsyncIterator[OpenIdServer]:
    async with serving() as running:
        yield running


@pytest.fixture
async def site(server: OpenIdServer, tmp_path: Path) -> OpenIdApp:
    return OpenIdApp(server, Clock(), tmp_path)


@pytest.fixture
async def runtime(site: OpenIdApp) -> AsyncIterator[Runtime]:
    async with site.open() as opened:
        yield opened


async def stored_id_token(runtime: Runtime, connection: Connection) -> str:
    core = runtime._core
    from go_services_core.runtime.load import load

    core.forget(connection.id)
    token = (await load(core, connection.id)).credential.tokens.id_token
    assert token is not None
    return token.reveal()


# --- a consent -----------------------------------------------------------------------------------------------------


async def test_account_is_the_issuer_and_the_subject_of_the_verified_token(site: OpenIdApp, runtime: Runtime) -> None:
    connection = await site.connect(runtime)
    assert connection.external_account_id == f"{site.server.url}|alice"
    assert connection.status == "active"
    assert site.server.requests["userinfo"] == 0, "the token has said it"


def unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none"}, claims)
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def signed_with_the_public_key(claims: dict[str, Any]) -> str:
    """HS256 whose secret is what everybody can fetch (RFC 8725 §2.1)."""
    public = signing_key("key-1").public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = ({"alg": "HS256", "kid": "key-1"}, claims)
    text = ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    signature = hmac.new(public, text.encode(), hashlib.sha256).digest()
    return f"{text}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_by_somebody_else(claims: dict[str, Any]) -> str:
    return str(jose_jwt.encode({"alg": "RS256", "kid": "key-1"}, claims, signing_key("stranger")))


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("nonce", {"claims": {"nonce": "another request's"}}),
        ("nonce", {"claims": {"nonce": None}}),
        ("aud", {"claims": {"aud": "another-app"}}),
        ("iss", {"claims": {"iss": "https://another.example"}}),
        ("exp", {"claims": {"exp": 1}}),
        ("sub", {"claims": {"sub": None}}),
        ("at_hash", {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}),
        ("c_hash", {"claims": {"c_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}),
        ("alg", {"forge": unsigned}),
        ("alg", {"forge": signed_with_the_public_key}),
        ("signature", {"forge": signed_by_somebody_else}),
        ("kid", {"kid": "stranger"}),
    ],
)
async def test_token_that_breaks_a_rule_keeps_nothing_and_touches_nothing(
    site: OpenIdApp, runtime: Runtime, field: str, lie: dict[str, Any]
) -> None:
    """OpenID Connect Core §3.1.3.7; RFC 8725 §2.1 and §3.1."""
    connection = await site.connect(runtime)
    token = await runtime.token(connection.id)
    for name, value in lie.items():
        setattr(site.server, name, value)
    for options in ({}, {"connection_id": connection.id}):
        with pytest.raises(JwtInvalid) as refused:
            await site.connect(runtime, **options)
        assert refused.value.field == field
    assert (await runtime.connections()).items == (connection,)
    assert await runtime.token(connection.id) == token


async def test_answer_without_an_id_token_is_refused(site: OpenIdApp, runtime: Runtime) -> None:
    site.server.id_token = False
    with pytest.raises(TokenResponseInvalid) as refused:
        await site.connect(runtime)
    assert refused.value.field == "id_token"
    assert (await runtime.connections()).items == ()


async def test_without_jose_no_consent_is_begun(site: OpenIdApp) -> None:
    plugins = {name: plugin for name, plugin in site.plugins.items() if name != "auth-jwt"}
    async with site.open(plugins) as runtime:
        with pytest.raises(ConfigError, match="go-services-auth-jwt"):
            await site.begin(runtime)
        await site.begin(runtime, grants=("profile",))


async def test_without_published_keys_an_id_token_is_kept_and_proves_nothing(site: OpenIdApp) -> None:
    site.change(jwks_url=None)
    site.server.forge = unsigned
    site.server.claims = {"sub": "mallory"}
    async with site.open() as runtime:
        connection = await site.connect(runtime)
        assert connection.external_account_id == f"{site.server.url}|alice"
        assert site.server.requests["userinfo"] == 1
        assert site.server.requests["jwks"] == 0


async def test_provider_that_says_nowhere_whose_account_it_is_connects_nobody(site: OpenIdApp) -> None:
    site.change(jwks_url=None, userinfo_url=None)
    async with site.open() as runtime:
        with pytest.raises(ProfileNotFound) as refused:
            await site.connect(runtime)
        assert refused.value.hint
        assert (await runtime.connections()).items == ()


@pytest.mark.parametrize("algorithms", [(), ("none",), ("RS256", "HS256")])
@pytest.mark.parametrize("record", [OAuth2Code, DeviceCode])
def test_record_cannot_allow_signatures_that_prove_nothing(record: Any, algorithms: tuple[str, ...]) -> None:
    urls = {"authorize_url": "https://a"} if record is OAuth2Code else {"device_authorization_url": "https://a"}
    with pytest.raises(ValueError, match="id_token_algorithms"):
        record(token_url="https://a", id_token_algorithms=algorithms, **urls)


# --- key sets ------------------------------------------------------------------------------------------------------


async def test_new_key_of_the_issuer_is_found_by_one_more_fetch(site: OpenIdApp, runtime: Runtime) -> None:
    await site.connect(runtime)
    await site.connect(runtime)
    assert site.server.requests["jwks"] == 1, "the set is cached"
    site.server.kid, site.server.published = "key-2", ["key-2"]
    await site.connect(runtime)
    await site.connect(runtime)
    assert site.server.requests["jwks"] == 2


async def test_unknown_keys_do_not_make_us_ask_the_issuer_more_than_once_a_minute(
    site: OpenIdApp, runtime: Runtime
) -> None:
    site.server.kid = "stranger"
    for _ in range(3):
        with pytest.raises(JwtKeyUnknown):
            await site.connect(runtime)
    assert site.server.requests["jwks"] == 2
    site.clock.ahead += 61
    with pytest.raises(JwtKeyUnknown):
        await site.connect(runtime)
    assert site.server.requests["jwks"] == 3


@pytest.mark.parametrize(
    ("said", "kept", "over"),
    [("", 3590, 3610), ("public, max-age=900", 890, 910), ("max-age=1", 290, 310), ("max-age=999999", 86390, 86410)],
)
async def test_key_set_is_fetched_anew_when_its_time_is_over(
    site: OpenIdApp, runtime: Runtime, said: str, kept: int, over: int
) -> None:
    site.server.cache_control = said
    await site.connect(runtime)
    site.clock.ahead = kept
    await site.connect(runtime)
    assert site.server.requests["jwks"] == 1
    site.clock.ahead = over
    await site.connect(runtime)
    assert site.server.requests["jwks"] == 2


async def test_many_at_once_fetch_a_key_set_once(site: OpenIdApp, runtime: Runtime) -> None:
    import asyncio

    await asyncio.gather(*(site.connect(runtime) for _ in range(5)))
    assert site.server.requests["jwks"] == 1


async def test_former_keys_serve_for_a_day_while_the_issuer_is_down(
    site: OpenIdApp, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    await site.connect(runtime)
    site.server.jwks_status = 503
    site.clock.ahead = 3601
    await site.connect(runtime)
    await site.connect(runtime)
    assert "the former one is used" in caplog.text
    assert site.server.requests["jwks"] == 2, "a failing issuer is not asked by every sign-in"
    site.clock.ahead = 3601 + 86400
    with pytest.raises(ProviderUnavailable):
        await site.connect(runtime)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"keys": 1}', b"[" * 100_000])
async def test_what_is_no_key_set_is_refused_before_the_code_is_spent(
    site: OpenIdApp, runtime: Runtime, body: bytes
) -> None:
    site.server.jwks_body = body
    with pytest.raises(ServicesError) as refused:
        await site.connect(runtime)
    assert refused.value.field == "jwks_url"
    assert site.server.requests["authorization_code"] == 0


async def test_key_set_of_more_than_a_mebibyte_is_not_read(site: OpenIdApp, runtime: Runtime) -> None:
    site.server.jwks_body = b'{"keys": []}' + b" " * (1 << 20)
    with pytest.raises(ServicesError, match="1048576"):
        await site.connect(runtime)


async def test_key_set_url_is_under_the_egress_guard(site: OpenIdApp) -> None:
    """P32."""
    site.change(jwks_url="http://127.0.0.1:1/jwks")
    async with site.open() as runtime:
        with pytest.raises(ServicesError) as refused:
            await site.connect(runtime)
    assert type(refused.value).__name__ == "EgressDenied"


# --- a renewal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        {"claims": {"sub": "mallory"}},
        {"claims": {"aud": "another-app"}},
        {"claims": {"iss": "https://another.example"}},
        {"forge": unsigned},
        {"kid": "stranger"},
    ],
)
async def test_renewal_with_a_wrong_id_token_keeps_the_new_tokens_and_leaves_it_out(
    site: OpenIdApp, runtime: Runtime, caplog: pytest.LogCaptureFixture, lie: dict[str, Any]
) -> None:
    """OpenID Connect Core §12.2. The refresh token works once: refusing the answer would lose the connection."""
    seen = []
    runtime.observe(seen.append, name="test", inline=True)
    connection = await site.connect(runtime)
    before = await stored_id_token(runtime, connection)
    for name, value in lie.items():
        setattr(site.server, name, value)
    await runtime.refresh(connection.id)
    assert await runtime.token(connection.id) == SecretStr("at-1-alice")
    assert await stored_id_token(runtime, connection) == before
    (told,) = [one for one in seen if one.name == "credential.id_token_refused"]
    assert (told.ok, told.connection_id) == (False, connection.id)
    assert "left out" in caplog.text

    site.server.claims, site.server.forge, site.server.kid = {}, None, "key-1"
    await runtime.refresh(connection.id)
    assert await runtime.token(connection.id) == SecretStr("at-2-alice")
    assert await stored_id_token(runtime, connection) != before
    assert site.server.requests["refresh_token"] == 2


async def test_renewal_needs_no_nonce_and_no_issuer_that_answers(site: OpenIdApp, runtime: Runtime) -> None:
    connection = await site.connect(runtime)
    site.server.jwks_status = 503
    site.clock.ahead = 3601 + 86400
    await runtime.refresh(connection.id)
    assert await runtime.token(connection.id) == SecretStr("at-1-alice")


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.W10.c", "a.e30.c", "a.eyJzdWIiOjF9.c", "a.%%%.c"])
def test_stored_token_that_cannot_be_read_has_no_subject(token: str) -> None:
    assert subject(SecretStr(token)) is None


async def test_consent_of_another_person_is_refused_for_a_connection(site: OpenIdApp, runtime: Runtime) -> None:
    connection = await site.connect(runtime)
    site.server.account = {"sub": "mallory", "email": "a@example.com"}
    with pytest.raises(AccountMismatch):
        await site.connect(runtime, connection_id=connection.id)
    assert (await runtime.connections()).items == (connection,)
