"""What auth-jwt signs and checks, against a server that go_services did not write."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest

from go_services_auth_jwt.assertion import client_assertion
from go_services_auth_jwt.base64url import encode
from go_services_auth_jwt.dpop import DpopSigner, generate_key, proof
from go_services_auth_jwt.id_token import verify_id_token
from go_services_auth_jwt.jwk import JwkSet
from go_services_core.auth.client_assertion import client_assertion_fields
from go_services_core.auth.dpop import KEY
from go_services_core.auth.dpop_nonces import wanted_nonce
from go_services_core.auth_specs import PersonalToken
from go_services_core.clock import SystemClock
from go_services_core.errors import JwtInvalid
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr

from .oidc.browser import Browser
from .oidc.clients import KEY_CLIENTS, REDIRECT, KeyClient
from .oidc.process import OidcServer

pytestmark = pytest.mark.integration
CLOCK = SystemClock()
ES256 = KEY_CLIENTS[2]
each_client = pytest.mark.parametrize("client", KEY_CLIENTS, ids=[client.algorithm for client in KEY_CLIENTS])


async def send(request: HttpRequest) -> HttpResponse:
    assert request.body is None or isinstance(request.body, bytes)
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
        ) as answer,
    ):
        return HttpResponse(answer.status, tuple(answer.headers.items()), await answer.read(), str(answer.url))


def authenticated(server: OidcServer, client: KeyClient, form: dict[str, str], **changes: Any) -> HttpRequest:
    """A token request of the client, with its assertion."""
    given: dict[str, Any] = {
        "client_id": client.client_id,
        "audience": server.url,
        "now": CLOCK.now(),
        "random": CLOCK.random,
    }
    key = changes.pop("key", client.key)
    assertion = changes.pop("assertion", None) or client_assertion(key, **{**given, **changes})
    return HttpRequest.form(f"{server.url}/token", {**form, **client_assertion_fields(SecretStr(assertion))})


CREDENTIALS = {"grant_type": "client_credentials", "scope": "api:read"}


# --- client authentication -----------------------------------------------------------------------------------------


@each_client
@pytest.mark.parametrize("audience", ["", "/token"], ids=["issuer", "token endpoint"])
async def test_client_proves_itself_with_an_assertion(key_server: OidcServer, client: KeyClient, audience: str) -> None:
    answer = await send(authenticated(key_server, client, CREDENTIALS, audience=key_server.url + audience))
    assert answer.status == 200, answer.body
    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["scope"] == "api:read"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": KEY_CLIENTS[3].key},
        {"client_id": "my-app"},
        {"audience": "https://another.example"},
        {"now": datetime.now(UTC) - timedelta(hours=1)},
    ],
    ids=["another key", "another client", "another server", "expired"],
)
async def test_server_refuses_a_wrong_assertion(key_server: OidcServer, changes: dict[str, Any]) -> None:
    """The server looks at what the assertion says, so that the tests above prove something."""
    answer = await send(authenticated(key_server, ES256, CREDENTIALS, **changes))
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")


async def test_assertion_works_once(key_server: OidcServer) -> None:
    request = authenticated(key_server, ES256, CREDENTIALS)
    assert (await send(request)).status == 200
    assert (await send(request)).json()["error"] == "invalid_client"
    assert (await send(authenticated(key_server, ES256, CREDENTIALS))).status == 200


# --- DPoP ----------------------------------------------------------------------------------------------------------


async def bound(
    server: OidcServer, key: SecretStr, form: dict[str, str] = CREDENTIALS, *, nonce: str | None = None
) -> HttpResponse:
    """The answer to a token request of the client with a proof."""
    request = authenticated(server, ES256, form)
    made = proof(key, request.method, request.url, now=CLOCK.now(), random=CLOCK.random, nonce=nonce)
    return await send(request.with_header("DPoP", made))


async def demanded(server: OidcServer, key: SecretStr) -> str:
    """The nonce that the server wants in a proof without one."""
    demand = await bound(server, key)
    assert (demand.status, demand.json()["error"]) == (400, "use_dpop_nonce")
    nonce = wanted_nonce(demand)
    assert nonce is not None
    return nonce


async def test_token_is_bound_to_the_key_of_a_proof_with_the_nonce_that_the_server_wants(
    key_server: OidcServer,
) -> None:
    key = generate_key(CLOCK.random)
    answer = await bound(key_server, key, nonce=await demanded(key_server, key))
    assert answer.status == 200, answer.body
    assert answer.json()["token_type"] == "DPoP"


@pytest.mark.parametrize("change", ["method", "url", "nonce", "key"])
async def test_server_refuses_a_wrong_proof(key_server: OidcServer, change: str) -> None:
    """The server looks at what the proof says, so that the tests above prove something."""
    key = generate_key(CLOCK.random)
    request = authenticated(key_server, ES256, CREDENTIALS)
    nonce = await demanded(key_server, key)
    given: dict[str, Any] = {"now": CLOCK.now(), "random": CLOCK.random, "nonce": nonce}
    method = "GET" if change == "method" else request.method
    url = f"{key_server.url}/elsewhere" if change == "url" else request.url
    made = proof(key, method, url, **{**given, "nonce": "invented" if change == "nonce" else nonce})
    if change == "key":
        made = (
            made.rpartition(".")[0] + "." + proof(generate_key(CLOCK.random), method, url, **given).rpartition(".")[2]
        )
    answer = await send(request.with_header("DPoP", made))
    wanted = "use_dpop_nonce" if change == "nonce" else "invalid_dpop_proof"
    assert (answer.status, answer.json()["error"]) == (400, wanted)


# --- ID tokens, and a bound token at a resource --------------------------------------------------------------------


async def consent(server: OidcServer, client: KeyClient, nonce: str) -> dict[str, str]:
    """The fields of the token request after a person has consented."""
    verifier = encode(CLOCK.random(32))
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": REDIRECT,
        "scope": "openid",
        "nonce": nonce,
        "state": "s",
        "code_challenge": encode(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    async with Browser("alice") as browser:
        callback = await browser.consent(f"{server.url}/auth?{urlencode(query)}")
    (code,) = parse_qs(urlsplit(callback).query)["code"]
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": verifier,
    }


async def published(server: OidcServer) -> JwkSet:
    return JwkSet.from_dict((await send(HttpRequest("GET", f"{server.url}/jwks"))).json())


async def test_id_token_of_the_server_is_verified_against_its_published_keys(key_server: OidcServer) -> None:
    nonce = encode(CLOCK.random(16))
    answer = await send(authenticated(key_server, ES256, await consent(key_server, ES256, nonce)))
    assert answer.status == 200, answer.body
    token, keys = SecretStr(answer.json()["id_token"]), await published(key_server)
    good: dict[str, Any] = {
        "issuer": key_server.url,
        "client_id": ES256.client_id,
        "now": CLOCK.now(),
        "nonce": nonce,
        "access_token": SecretStr(answer.json()["access_token"]),
    }

    read = verify_id_token(token, keys, **good)
    assert (read.subject, read.audience) == ("alice", (ES256.client_id,))
    assert abs(read.issued_at.timestamp() - time.time()) < 60

    for field, wrong in (
        ("nonce", {"nonce": "another"}),
        ("aud", {"client_id": "my-app"}),
        ("iss", {"issuer": "https://another.example"}),
        ("exp", {"now": CLOCK.now() + timedelta(days=2)}),
        ("iat", {"now": CLOCK.now() - timedelta(days=2)}),
        ("alg", {"algorithms": ("ES256",)}),
    ):
        with pytest.raises(JwtInvalid) as caught:
            verify_id_token(token, keys, **{**good, **wrong})
        assert caught.value.field == field
    body, _, signature = token.reveal().rpartition(".")
    with pytest.raises(JwtInvalid) as caught:
        verify_id_token(SecretStr(f"{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"), keys, **good)
    assert caught.value.field == "signature"


async def test_bound_token_opens_a_resource_only_with_a_proof_of_its_key(key_server: OidcServer) -> None:
    key = generate_key(CLOCK.random)
    form = await consent(key_server, ES256, "n")
    answer = await bound(key_server, key, form, nonce=await demanded(key_server, key))
    assert answer.json()["token_type"] == "DPoP", answer.body
    token = SecretStr(answer.json()["access_token"])
    resource = HttpRequest("GET", f"{key_server.url}/me?x=1")

    def signed(with_key: SecretStr, nonce: str | None) -> HttpRequest:
        tokens = TokenSet(access_token=token, token_type="dpop", extra={KEY: with_key})
        credential = Credential(connection_id="c", version=1, auth_kind="pat", tokens=tokens)
        signing = SigningKey(secret=token, auth=PersonalToken(), credential=credential)
        return DpopSigner().sign(resource, signing, SigningContext(CLOCK.now(), CLOCK.random, nonce))

    challenge = await send(signed(key, None))
    assert challenge.status == 401
    nonce = wanted_nonce(challenge)
    assert nonce is not None
    opened = await send(signed(key, nonce))
    assert (opened.status, opened.json()["sub"]) == (200, "alice")

    stolen = resource.with_header("Authorization", f"Bearer {token.reveal()}")
    assert (await send(stolen)).status == 401
    another = generate_key(Random(1).randbytes)
    assert (await send(signed(another, nonce))).status == 401
