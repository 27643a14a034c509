"""DPoP proofs, as the server of RFC 9449 §4.3 checks them with another implementation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk as jose_jwk
from joserfc import jws as jose_jws

from go_services_auth_jwt.base64url import decode, encode
from go_services_auth_jwt.dpop import DpopSigner, generate_key, proof, thumbprint
from go_services_core.auth.dpop import KEY
from go_services_core.auth_specs import PersonalToken
from go_services_core.errors import KeyInvalid, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.signer import SignerSubject
from go_services_core.testing.pytest_kit import SignerKit

from . import vectors
from .keys import NOW, pem

PRIVATE = generate_key(Random(7).randbytes)
TOKEN = SecretStr(vectors.DPOP_TOKEN)
MOMENT = int(NOW.timestamp())


def accept(
    made: str,
    method: str,
    url: str,
    *,
    at: int = MOMENT,
    nonce: str | None = None,
    access_token: str | None = None,
    jkt: str | None = None,
) -> dict[str, Any]:
    """The twelve checks of RFC 9449 §4.3, on joserfc; gives the claims."""
    head = json.loads(_part(made, 0))
    assert head["typ"] == "dpop+jwt"
    assert head["alg"] in ("ES256", "RS256", "EdDSA", "PS256", "ES384")
    assert not {"d", "k", "p", "q"} & head["jwk"].keys()
    kind: dict[str, Any] = {"EC": jose_jwk.ECKey, "RSA": jose_jwk.RSAKey, "OKP": jose_jwk.OKPKey}
    key = kind[head["jwk"]["kty"]].import_key(head["jwk"])
    registry = jose_jws.JWSRegistry(algorithms=[head["alg"]], strict_check_header=False)
    registry.max_header_length = 2048  # an RSA key in the header is larger than joserfc expects of one
    claims: dict[str, Any] = json.loads(jose_jws.deserialize_compact(made, key, registry=registry).payload)
    assert claims["htm"] == method
    parts = urlsplit(url)
    assert claims["htu"] == f"{parts.scheme}://{parts.netloc}{parts.path}"
    assert abs(claims["iat"] - at) <= 5
    assert len(claims["jti"]) >= 16  # 96 bits of randomness or more
    assert claims.get("nonce") == nonce
    digest = None if access_token is None else encode(hashlib.sha256(access_token.encode()).digest())
    assert claims.get("ath") == digest
    assert jkt is None or key.thumbprint() == jkt
    return claims


def _part(token: str, number: int) -> bytes:
    return decode(token.split(".")[number])


def make(method: str = "POST", url: str = "https://server.example.com/token", **more: Any) -> str:
    return proof(PRIVATE, method, url, now=NOW, random=Random(1).randbytes, **more)


# --- the proof -----------------------------------------------------------------------------------------------------


def test_published_proof_passes_the_verifier() -> None:
    claims = accept(vectors.DPOP_PROOF, "POST", "https://server.example.com/token", at=1562262616, jkt=vectors.DPOP_JKT)
    assert claims == {
        "jti": "-BwC3ESc6acc2lTc",
        "htm": "POST",
        "htu": "https://server.example.com/token",
        "iat": 1562262616,
    }


def test_proof_has_the_members_of_the_published_one() -> None:
    assert json.loads(_part(make(), 1)).keys() == json.loads(_part(vectors.DPOP_PROOF, 1)).keys()
    ours, theirs = json.loads(_part(make(), 0)), json.loads(_part(vectors.DPOP_PROOF, 0))
    assert ours.keys() == theirs.keys()
    assert ours["jwk"].keys() == theirs["jwk"].keys()
    accept(make(), "POST", "https://server.example.com/token", jkt=thumbprint(PRIVATE))


def test_proof_for_a_resource_has_the_published_hash_of_the_token_and_the_nonce() -> None:
    made = make("GET", "https://resource.example.org/r", access_token=TOKEN, nonce="eyJ7S_zG.eyJH0-Z.HX4w-7v")
    claims = accept(
        made,
        "GET",
        "https://resource.example.org/r",
        access_token=vectors.DPOP_TOKEN,
        nonce="eyJ7S_zG.eyJH0-Z.HX4w-7v",
    )
    assert claims["ath"] == vectors.DPOP_ATH


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://api.example/a?page=2#top", "https://api.example/a"),
        ("https://api.example/a#top?x", "https://api.example/a"),
        ("https://api.example", "https://api.example"),
        ("https://api.example:8443/%7Ea/b%2Fc/?", "https://api.example:8443/%7Ea/b%2Fc/"),
        ("http://127.0.0.1:80/token", "http://127.0.0.1:80/token"),
    ],
)
def test_target_is_the_url_without_query_and_fragment_and_otherwise_as_it_is(url: str, target: str) -> None:
    assert json.loads(_part(make(url=url), 1))["htu"] == target


@pytest.mark.parametrize("url", ["/token", "ftp://a.example/", "https://user@a.example/", "https://", "", "https://[/"])
def test_proof_is_only_for_an_absolute_http_url(url: str) -> None:
    with pytest.raises(SigningError):
        make(url=url)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_key_of_any_asymmetric_type_may_prove(algorithm: str) -> None:
    made = proof(SecretStr(pem(algorithm)), "GET", "https://a.example/x", now=NOW, random=Random(1).randbytes)
    accept(made, "GET", "https://a.example/x", jkt=thumbprint(SecretStr(pem(algorithm))))


def test_proof_is_never_the_same_and_never_holds_the_private_key() -> None:
    random = Random(1).randbytes
    one, two = (proof(PRIVATE, "GET", "https://a.example/", now=NOW, random=random) for _ in range(2))
    assert json.loads(_part(one, 1))["jti"] != json.loads(_part(two, 1))["jti"]
    assert set(json.loads(_part(one, 0))["jwk"]) == {"kty", "crv", "x", "y"}


def test_shared_secret_cannot_prove() -> None:
    with pytest.raises(KeyInvalid):
        thumbprint(SecretStr('{"kty":"oct","k":"AAAA"}'))


# --- the signer ----------------------------------------------------------------------------------------------------


def signing_key(token: SecretStr = TOKEN, key: SecretStr | None = PRIVATE) -> SigningKey:
    tokens = TokenSet(access_token=token, token_type="dpop", extra={} if key is None else {KEY: key})
    credential = Credential(connection_id="c", version=1, auth_kind="oauth2_auth_code", tokens=tokens)
    return SigningKey(secret=token, auth=PersonalToken(), credential=credential)


class TestDpop(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        request = HttpRequest("POST", "https://api.example/v1/items?page=2", (("Accept", "*/*"),), b"{}", 3.0, 1000)
        yield SignerSubject(DpopSigner(), signing_key(), request)


def test_signed_request_carries_token_and_proof() -> None:
    request = HttpRequest("GET", "https://api.example/items?page=2", (("authorization", "Bearer old"),))
    signed = DpopSigner().sign(request, signing_key(), SigningContext(NOW, Random(1).randbytes, "n-5"))
    names = [name for name, _ in signed.headers]
    assert names == ["Authorization", "DPoP"]
    assert signed.header("Authorization") == f"DPoP {vectors.DPOP_TOKEN}"
    accept(
        signed.header("DPoP") or "",
        "GET",
        "https://api.example/items",
        nonce="n-5",
        access_token=vectors.DPOP_TOKEN,
        jkt=thumbprint(PRIVATE),
    )


def test_credential_without_a_usable_key_is_a_signing_error_that_shows_nothing() -> None:
    context = SigningContext(NOW, Random(1).randbytes)
    request = HttpRequest("GET", "https://api.example/")
    for key in (
        signing_key(key=None),
        evolve(signing_key(), credential=None),
        signing_key(key=SecretStr("s3cr3t-key")),
    ):
        with pytest.raises(SigningError) as caught:
            DpopSigner().sign(request, key, context)
        assert caught.value.field == KEY
        assert "s3cr3t-key" not in str(caught.value)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.text("abc/%7E-_.", max_size=20),
    token=st.text("aZ9-._~+/=", min_size=1),
)
def test_every_signed_request_passes_the_verifier(method: str, path: str, token: str) -> None:
    url = f"https://api.example/{path}"
    signed = DpopSigner().sign(
        HttpRequest(method, url + "?q=1"), signing_key(SecretStr(token)), SigningContext(NOW, Random(1).randbytes)
    )
    accept(signed.header("DPoP") or "", method, url, access_token=token)
