"""Assertions: what a provider finds in them, read with another implementation."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwk as jose_jwk
from joserfc import jwt as jose_jwt

from go_services_auth_jwt.assertion import (
    client_assertion,
    grant_assertion,
)
from go_services_core.errors import BadInput, KeyInvalid

from .keys import NOW, SECRET, certificate, pem, private

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


def read(token: str, algorithm: str) -> Any:
    kinds: dict[str, Any] = {"RS256": jose_jwk.RSAKey, "PS256": jose_jwk.RSAKey, "EdDSA": jose_jwk.OKPKey}
    if algorithm == "HS256":
        key: Any = jose_jwk.OctKey.import_key(SECRET)
    else:
        key = kinds.get(algorithm, jose_jwk.ECKey).import_key(pem(algorithm))
    return jose_jwt.decode(token, key, algorithms=[algorithm])


def client(algorithm: str = "ES256", **more: Any) -> str:
    given: dict[str, Any] = {
        "client_id": "my-app",
        "audience": "https://as.example",
        "now": NOW,
        "random": Random(1).randbytes,
    }
    return client_assertion(private(algorithm, kid="key-1"), **{**given, **more})


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA", "HS256"])
def test_client_assertion_has_the_claims_of_rfc_7523(algorithm: str) -> None:
    token = read(client(algorithm), algorithm)
    now = int(NOW.timestamp())
    jti = token.claims.pop("jti")
    assert token.claims == {
        "iss": "my-app",
        "sub": "my-app",
        "aud": "https://as.example",
        "iat": now - 10,
        "exp": now + 60,
    }
    assert token.header == {"alg": algorithm, "typ": "JWT", "kid": "key-1"}
    assert len(jti) == 22


def test_every_assertion_has_an_id_of_its_own() -> None:
    random = Random(1).randbytes
    assert read(client(random=random), "ES256").claims["jti"] != read(client(random=random), "ES256").claims["jti"]


def test_certificate_of_the_key_is_named_in_the_header() -> None:
    text = certificate("ES256").public_bytes(Encoding.PEM).decode()
    assert len(read(client(certificate=text), "ES256").header["x5t#S256"]) == 43
    other = certificate("ES256", 1).public_bytes(Encoding.PEM).decode()
    with pytest.raises(KeyInvalid, match="another key"):
        client(certificate=other)


def test_grant_assertion_has_scopes_and_leaves_an_absent_subject_out() -> None:
    given: dict[str, Any] = {"audience": "https://as.example/token", "now": NOW, "random": Random(1).randbytes}
    key = private("RS256")
    full = grant_assertion(key, issuer="sa@p.example", subject="alice", scopes=("a", "b"), **given)
    claims = read(full, "RS256").claims
    assert (claims["iss"], claims["sub"], claims["scope"]) == ("sa@p.example", "alice", "a b")
    bare = read(grant_assertion(key, issuer="sa@p.example", subject=None, **given), "RS256").claims
    assert set(bare) == {"iss", "aud", "iat", "exp", "jti"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lifetime": 0}, "lifetime"),
        ({"lifetime": -1}, "lifetime"),
        ({"lifetime": 3600, "backdate": 1}, "lifetime"),
        ({"lifetime": 5, "backdate": -1}, "lifetime"),
        ({"lifetime": float("nan")}, "lifetime"),
        ({"client_id": ""}, "iss"),
        ({"audience": " "}, "aud"),
    ],
)
def test_assertion_that_no_server_should_take_is_not_signed(change: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        client(**change)
    assert caught.value.field == field


def test_life_of_an_assertion_is_an_hour_at_most_whatever_the_fraction_of_the_second() -> None:
    for microseconds in (0, 1, 400_000, 999_999):
        now = NOW + timedelta(microseconds=microseconds)
        claims = read(client(now=now, lifetime=3589.5, backdate=10.5), "ES256").claims
        assert claims["exp"] - claims["iat"] <= 3600
