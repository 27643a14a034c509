"""HTTP Message Signatures by asymmetric keys: the RFC's examples, and another implementation that checks ours."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature, algorithms
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from go_services_auth_jwt.jose import JwtJose
from go_services_auth_jwt.jwk import Jwk
from go_services_auth_jwt.message_signatures import HttpSignatureKeySigner, make
from go_services_core.auth.fields import concealed
from go_services_core.auth.http_signature import HttpSignatureFlow
from go_services_core.auth_specs import HttpSignature
from go_services_core.errors import BadInput, KeyInvalid, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext, SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing import message_signatures
from go_services_core.testing.checks.signer import SignerSubject
from go_services_core.testing.pytest_kit import SignerKit

from . import message_vectors as rfc
from .keys import pem, public_pem

NOW = datetime.now(UTC)
"""The other implementation asks the machine's clock whether a signature is of now."""
APRIL = datetime.fromtimestamp(1618884473, UTC)
REQUEST = HttpRequest(
    "POST",
    "https://example.com/foo?param=Value&Pet=dog",
    (("Date", "Tue, 20 Apr 2021 02:07:55 GMT"), ("Content-Type", "application/json")),
    b'{"hello": "world"}',
)
ALGORITHMS: dict[str, tuple[str, Any]] = {
    "ed25519": ("EdDSA", algorithms.ED25519),
    "ecdsa-p256-sha256": ("ES256", algorithms.ECDSA_P256_SHA256),
    "ecdsa-p384-sha384": ("ES384", algorithms.ECDSA_P384_SHA384),
    "rsa-pss-sha512": ("RS256", algorithms.RSA_PSS_SHA512),
    "rsa-v1_5-sha256": ("RS256", algorithms.RSA_V1_5_SHA256),
}
"""By name: the kind of key, and the other implementation of the algorithm."""


def key_of(record: HttpSignature, secret: str, key_id: str = "key-1") -> SigningKey:
    tokens = TokenSet(access_token=SecretStr(secret), extra={"key_id": SecretStr(key_id, name=True)})
    credential = Credential(connection_id="c", version=1, auth_kind="http_signature", tokens=tokens)
    return SigningKey(secret=tokens.access_token, auth=record, credential=credential)


def sign(
    record: Any, secret: str, request: HttpRequest = REQUEST, key_id: str = "key-1", now: datetime = NOW
) -> HttpRequest:
    context = SigningContext(now, Random(1).randbytes)
    return HttpSignatureKeySigner().sign(request, key_of(record, secret, key_id), context)


# --- the RFC's own ---------------------------------------------------------------------------------------------------


def test_signature_is_that_of_rfc_9421_b_2_6() -> None:
    covered = ("date", "@method", "@path", "@authority", "content-type", "content-length")
    record = HttpSignature(covered=covered, covered_with_body=(), label="sig-b26")
    signed = sign(record, rfc.ED25519_PRIVATE, key_id="test-key-ed25519", now=APRIL)
    assert signed.header("Signature-Input") == (
        'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473'
        ';keyid="test-key-ed25519"'
    )
    assert signed.header("Signature") == f"sig-b26=:{rfc.B26}:"


@pytest.mark.parametrize(
    ("algorithm", "twin", "public", "key_id", "covered", "more", "signature"),
    [
        ("rsa-pss-sha512", "PS512", rfc.RSA_PSS_PUBLIC, "test-key-rsa-pss",
         ("@authority", "content-digest", '@query-param;name="Pet"'),
         {"tag": "header-example", "parameters": ("created", "keyid", "tag")}, rfc.B22),
        ("rsa-pss-sha512", "PS512", rfc.RSA_PSS_PUBLIC, "test-key-rsa-pss",
         ("date", "@method", "@path", "@query", "@authority", "content-type", "content-digest", "content-length"),
         {}, rfc.B23),
        ("ecdsa-p256-sha256", "ES256", rfc.P256_PUBLIC, "test-key-ecc-p256",
         ("@path", "@query", "@method", "@authority", "client-cert"), {}, rfc.B3),
    ],
    ids=["B.2.2", "B.2.3", "B.3"],
)  # fmt: skip
def test_signature_base_is_that_of_which_rfc_9421_has_the_signature(
    algorithm: Any,
    twin: Any,
    public: str,
    key_id: str,
    covered: tuple[str, ...],
    more: dict[str, Any],
    signature: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """These algorithms draw something at random: the published signature has to fit what we sign."""
    url = REQUEST.url if key_id != "test-key-ecc-p256" else "https://service.internal.example/foo?param=Value&Pet=dog"
    request = REQUEST.with_url(url).with_header("Client-Cert", rfc.CLIENT_CERT)
    bases: list[bytes] = []

    def keep(record: HttpSignature, secret: SecretStr, base: bytes) -> bytes:
        bases.append(base)
        return b"-"

    record = HttpSignature(algorithm=algorithm, covered=covered, covered_with_body=(), digest="sha-512", **more)
    message_signatures.signed(request, key_of(record, "-", key_id), SigningContext(APRIL, Random(1).randbytes), keep)
    key = Jwk.from_public_pem(public, algorithm=twin)
    key.check(twin, bases[0], b64decode(signature))


# --- another implementation ------------------------------------------------------------------------------------------


class Message:
    def __init__(self, request: HttpRequest) -> None:
        self.method, self.url, self.headers = request.method, request.url, CIMultiDict(request.headers)


class Resolver(HTTPSignatureKeyResolver):  # type: ignore[misc, unused-ignore]
    def __init__(self, public: str) -> None:
        self._public = public.encode()

    def resolve_public_key(self, key_id: str) -> bytes:
        return self._public


def verify(request: HttpRequest, algorithm: Any, public: str) -> None:
    verifier = HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=Resolver(public))
    assert isinstance(request.body, bytes)
    verifier.verify(Message(request), body=request.body)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(
    method=st.sampled_from(["POST", "PUT"]), path=st.text("abc/-._~", max_size=8), query=st.text("ab=&%20+", max_size=8),
    body=st.binary(min_size=1, max_size=30), value=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=9),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_another_implementation_accepts_the_signature(
    algorithm: Any, method: str, path: str, query: str, body: bytes, value: str
) -> None:
    kind, other = ALGORITHMS[algorithm]
    query = query.replace("%", "%25")
    request = HttpRequest(method, f"https://a.example/{path}?{query}", (("X-A", value), ("X-A", "2")), body)
    record = HttpSignature(
        algorithm=algorithm, covered=("@method", "@target-uri", "x-a"), parameters=("created", "alg", "keyid")
    )
    signed = sign(record, pem(kind), request)
    verify(signed, other, public_pem(kind))
    with pytest.raises(InvalidSignature):
        verify(signed.with_url(signed.url + "1"), other, public_pem(kind))


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_of_another_kind_is_refused_by_name(algorithm: Any) -> None:
    wrong = "ES256" if algorithm != "ecdsa-p256-sha256" else "ES384"
    for secret in (pem(wrong), "not a key"):
        with pytest.raises(SigningError, match="private_key") as refused:
            sign(HttpSignature(algorithm=algorithm), secret)
        assert (refused.value.field, refused.value.plugin) == ("private_key", "auth-jwt")


def test_shared_secret_is_no_key_here() -> None:
    with pytest.raises(KeyInvalid, match="hmac-sha256"):
        make(SecretStr("x" * 40), "hmac-sha256", b"")


def context(record: HttpSignature) -> AuthContext:
    return AuthContext(
        provider_id="acme", auth=record, settings=None, scope=Scope("user", "u1"), now=NOW, random=Random(1).randbytes,
        jose=JwtJose(),
    )  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_is_tried_when_it_is_typed(algorithm: Any) -> None:
    record = HttpSignature(algorithm=algorithm)
    right, wrong = pem(ALGORITHMS[algorithm][0]), pem("ES384" if algorithm != "ecdsa-p384-sha384" else "ES256")
    flow = HttpSignatureFlow().complete(context(record), concealed({"key_id": "one", "private_key": right}))
    with pytest.raises(StopIteration) as done:
        next(flow)
    assert done.value.value.access_token.reveal() == right
    with pytest.raises(BadInput) as refused:
        next(HttpSignatureFlow().complete(context(record), concealed({"key_id": "one", "private_key": wrong})))
    assert refused.value.field == "private_key"


class TestHttpSignatureKey(SignerKit):
    """Ed25519: of RSA-PSS no two signatures are alike."""

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        record = HttpSignature(parameters=("created", "nonce", "keyid"))
        yield SignerSubject(
            HttpSignatureKeySigner(),
            key_of(record, pem("EdDSA")),
            HttpRequest("POST", "https://api.example/v1/items?page=2", (("Accept", "*/*"),), b"{}", 3.0, 1000),
            covers=("method", "path", "query", "body"),
            other=key_of(record, pem("EdDSA", 1)),
        )
