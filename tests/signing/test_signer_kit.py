"""The core's signers keep the kit's rules, and each rule finds a signer that breaks it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve

from go_services_core.auth_specs import ApiKey, AwsSigV4, Basic, Hmac, HttpSignature, Mtls, OAuth2Code, PersonalToken
from go_services_core.errors import SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.api_key import ApiKeySigner
from go_services_core.signing.basic import BasicSigner
from go_services_core.signing.bearer import BearerSigner
from go_services_core.signing.hmac import HmacSigner
from go_services_core.signing.message_signatures import HttpSignatureSigner
from go_services_core.signing.mtls import MtlsSigner
from go_services_core.signing.sigv4 import SigV4Signer
from go_services_core.testing.checks.signer import SignerSubject
from go_services_core.testing.kit import conformance
from go_services_core.testing.pytest_kit import SignerKit

ALL = ("method", "path", "query", "body")
SECRET = SecretStr("s3cret/with+all=kinds")
REQUEST = HttpRequest("POST", "https://api.example/v1/items?page=2", (("Accept", "*/*"),), b"{}", 3.0, 1000)
BEARER = SignerSubject(BearerSigner(), SigningKey(secret=SECRET, auth=PersonalToken()), REQUEST)


class TestBearer(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield BEARER


class TestBasic(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        tokens = TokenSet(access_token=SECRET, extra={"username": SecretStr("aladdin")})
        credential = Credential(connection_id="c", version=1, auth_kind="basic", tokens=tokens)
        yield SignerSubject(BasicSigner(), SigningKey(secret=SECRET, auth=Basic(), credential=credential), REQUEST)


class TestApiKeyInHeader(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield SignerSubject(ApiKeySigner(), SigningKey(secret=SECRET, auth=ApiKey(prefix="Key")), REQUEST)


class TestApiKeyInQuery(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield SignerSubject(ApiKeySigner(), SigningKey(secret=SECRET, auth=ApiKey(query="key")), REQUEST)


def aws(**record: Any) -> SignerSubject:
    extra = {name: SecretStr(f"the-{name}") for name in ("access_key_id", "session_token", "access_token")}
    tokens = TokenSet(access_token=SECRET, extra=extra)
    credential = Credential(connection_id="c", version=1, auth_kind="aws_sigv4", tokens=tokens)
    key = SigningKey(secret=SECRET, auth=AwsSigV4(region="us-east-1", **record), credential=credential)
    return SignerSubject(SigV4Signer(), key, REQUEST)


class TestAwsInHeader(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield evolve(aws(service="execute-api", access_token_header="x-amz-access-token"), covers=ALL)


class TestAwsInQuery(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield evolve(aws(service="execute-api", mode="query"), covers=ALL)


class TestAwsS3(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield evolve(aws(service="s3"), covers=ALL)


class TestAwsS3Unsigned(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        yield evolve(aws(service="s3", unsigned_payload=True, checksum="sha256"), covers=ALL[:3])


class TestHmac(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        tokens = TokenSet(access_token=SECRET, extra={"key_id": SecretStr("the-key-id", name=True)})
        credential = Credential(connection_id="c", version=1, auth_kind="hmac", tokens=tokens)
        auth = Hmac(key_id_header="X-Key", nonce_header="X-Nonce", digest_header="Digest", prefix="{key_id} {nonce} ")
        key = SigningKey(secret=SECRET, auth=auth, credential=credential)
        yield SignerSubject(HmacSigner(), key, REQUEST, covers=ALL)


class TestHttpSignature(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        tokens = TokenSet(access_token=SECRET, extra={"key_id": SecretStr("the-key-id", name=True)})
        credential = Credential(connection_id="c", version=1, auth_kind="http_signature", tokens=tokens)
        auth = HttpSignature(
            algorithm="hmac-sha256", parameters=("created", "nonce", "keyid", "expires", "tag"), lifetime=60, tag="kit"
        )
        key = SigningKey(secret=SECRET, auth=auth, credential=credential)
        yield SignerSubject(HttpSignatureSigner(), key, REQUEST, covers=ALL)


class TestMtls(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        extra = {name: SecretStr(f"the-{name}") for name in ("certificate", "passphrase")}
        tokens = TokenSet(access_token=SECRET, extra=extra)
        credential = Credential(connection_id="c", version=1, auth_kind="mtls", tokens=tokens)
        yield SignerSubject(MtlsSigner(), SigningKey(secret=SECRET, auth=Mtls(), credential=credential), REQUEST)


class TestBoundBearer(SignerKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SignerSubject]:
        extra = {name: SecretStr(f"the-{name}") for name in ("client_certificate", "client_private_key")}
        tokens = TokenSet(access_token=SECRET, extra=extra)
        credential = Credential(connection_id="c", version=1, auth_kind="oauth2_auth_code", tokens=tokens)
        auth = OAuth2Code(authorize_url="", token_url="", certificate_bound_tokens=True)
        yield SignerSubject(BearerSigner(), SigningKey(secret=SECRET, auth=auth, credential=credential), REQUEST)


def _bearer(request: HttpRequest, key: SigningKey) -> HttpRequest:
    return request.with_header("Authorization", "Bearer " + key.secret.reveal())


def _drawing(request: HttpRequest, key: SigningKey, draws: list[int]) -> HttpRequest:
    draws.append(0)
    return _bearer(request, key).with_header("X-Count", str(len(draws)))


def _unchecked(request: HttpRequest, key: SigningKey) -> HttpRequest:
    return evolve(request, headers=(*request.headers, ("Authorization", "Bearer " + key.secret.reveal())))


def _sorted_query(request: HttpRequest, key: SigningKey) -> HttpRequest:
    path, _, query = request.url.partition("?")
    return _bearer(request.with_url(f"{path}?{'&'.join(sorted(query.split('&')))}"), key)


def _through_text(request: HttpRequest, key: SigningKey) -> HttpRequest:
    assert isinstance(request.body, bytes)
    return evolve(_bearer(request, key), body=request.body.decode("utf-8", "replace").encode())


def _pasted_in_path(request: HttpRequest, key: SigningKey) -> HttpRequest:
    path, mark, query = request.url.partition("?")
    return request.with_url(f"{path}/{key.secret.reveal()}{mark}{query}")


def _holding(request: HttpRequest, key: SigningKey) -> HttpRequest:
    token = key.secret.reveal()
    return request.with_header("Authorization", token)


def _method_alone(request: HttpRequest, key: SigningKey) -> HttpRequest:
    return _bearer(request, key).with_header("X-Signature", request.method)


def _reading(request: HttpRequest, key: SigningKey) -> HttpRequest:
    return _bearer(evolve(request, body=request.body if isinstance(request.body, bytes) else b"read"), key)


BROKEN: dict[str, tuple[Callable[[HttpRequest, SigningKey], HttpRequest], str]] = {
    "does nothing": (lambda request, key: request, "SIGN-001"),
    "returns its input": (lambda request, key: request, "SIGN-002"),
    "does not check the header": (_unchecked, "SIGN-003"),
    "sorts the query": (_sorted_query, "SIGN-004"),
    "decodes the body": (_through_text, "SIGN-005"),
    "drops the limits": (lambda request, key: _bearer(HttpRequest(request.method, request.url), key), "SIGN-005"),
    "drops headers": (lambda request, key: _bearer(evolve(request, headers=()), key), "SIGN-006"),
    "puts the secret in the path": (_pasted_in_path, "SIGN-007"),
    "appends each time": (_unchecked, "SIGN-008"),
    "keeps the secret in a local": (_holding, "SIGN-011"),
    "signs the method alone": (_method_alone, "SIGN-012"),
    "reads a streamed body": (_reading, "SIGN-013"),
}


@pytest.mark.parametrize(("sign", "id"), BROKEN.values(), ids=BROKEN)
async def test_a_check_finds_the_signer_that(sign: Callable[..., HttpRequest], id: str) -> None:
    class Broken:
        def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
            return sign(request, key)

    assert id in await _failed(evolve(BEARER, signer=Broken(), covers=ALL))


async def test_a_check_finds_the_signer_that_does_not_look_at_its_record() -> None:
    class Broken:
        def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
            assert isinstance(key.auth, ApiKey)
            return evolve(_bearer(request, key), headers=((str(key.auth.header), "1"), *_bearer(request, key).headers))

    key = SigningKey(secret=SECRET, auth=ApiKey(header="X-Kit"))
    assert "SIGN-009" in await _failed(SignerSubject(Broken(), key, REQUEST))


@pytest.mark.parametrize("named", [None, "token"])
async def test_a_check_finds_the_signer_that_does_not_name_what_is_missing(named: str | None) -> None:
    class Broken:
        def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
            if key.credential is None or "username" not in key.credential.tokens.extra:
                raise SigningError("Something is missing.", field=named)
            return _bearer(request, key)

    tokens = TokenSet(access_token=SECRET, extra={"username": SecretStr("aladdin")})
    credential = Credential(connection_id="c", version=1, auth_kind="basic", tokens=tokens)
    key = SigningKey(secret=SECRET, auth=Basic(), credential=credential)
    assert await _failed(SignerSubject(Broken(), key, REQUEST)) == {"SIGN-010"}


async def test_a_check_finds_the_signer_that_is_no_function_of_its_input() -> None:
    draws: list[int] = []

    class Counting:
        def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
            return _drawing(request, key, draws)

    assert "SIGN-001" in await _failed(evolve(BEARER, signer=Counting()))


async def _failed(subject: SignerSubject) -> set[str]:
    @asynccontextmanager
    async def made() -> AsyncIterator[Any]:
        yield subject

    report = await conformance("signer", made)
    return {result.check.id for result in report.results if result.outcome == "failed"}


async def test_the_shipped_signer_fails_no_check() -> None:
    assert await _failed(BEARER) == set()
    assert b64encode(SECRET.reveal().encode()).decode() not in repr(BEARER)
