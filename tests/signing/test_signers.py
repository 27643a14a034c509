"""What each of the core's signers writes."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import ApiKey, AuthSpec, Basic, PersonalToken
from go_services_core.errors import BadInput, ServicesError, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import Signer, SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.api_key import ApiKeySigner
from go_services_core.signing.basic import BasicSigner
from go_services_core.signing.bearer import BearerSigner

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

CONTEXT = SigningContext(datetime(2026, 1, 1, tzinfo=UTC), Random(0).randbytes)
REQUEST = HttpRequest("GET", "https://api.example/items", (("Accept", "*/*"),))


def sign(
    signer: Signer, secret: str, auth: AuthSpec, request: HttpRequest = REQUEST, username: str | None = None
) -> HttpRequest:
    credential = None
    if username is not None:
        tokens = TokenSet(access_token=SecretStr(secret), extra={"username": SecretStr(username)})
        credential = Credential(connection_id="c", version=1, auth_kind=auth.kind, tokens=tokens)
    return signer.sign(request, SigningKey(secret=SecretStr(secret), auth=auth, credential=credential), CONTEXT)


def test_bearer_writes_the_header_of_rfc_6750() -> None:
    signed = sign(BearerSigner(), "mF_9.B5f-4.1JqM", PersonalToken())
    assert signed.headers == (("Accept", "*/*"), ("Authorization", "Bearer mF_9.B5f-4.1JqM"))


def test_personal_token_has_the_scheme_that_its_record_says() -> None:
    """GitHub and its like take ``token`` too."""
    assert sign(BearerSigner(), "abc", PersonalToken(scheme="token")).header("Authorization") == "token abc"
    for scheme in ("", "a b", "x\r\n"):
        with pytest.raises(ValueError, match="scheme"):
            PersonalToken(scheme=scheme)


def test_blank_token_is_not_sent() -> None:
    with pytest.raises(SigningError) as refused:
        sign(BearerSigner(), "", PersonalToken())
    assert refused.value.field == "token"


def test_bearer_replaces_an_authorization_header_in_any_spelling() -> None:
    request = HttpRequest("GET", "https://api.example", (("authorization", "Bearer old"), ("AUTHORIZATION", "x")))
    assert sign(BearerSigner(), "new", PersonalToken(), request).headers == (("Authorization", "Bearer new"),)


@pytest.mark.parametrize(
    ("username", "password", "header"),
    [
        ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617 §2
        ("test", "123£", "Basic dGVzdDoxMjPCow=="),  # RFC 7617 §2.1
        ("user", "with:colon", "Basic dXNlcjp3aXRoOmNvbG9u"),
    ],
)
def test_basic_writes_the_header_of_rfc_7617(username: str, password: str, header: str) -> None:
    assert sign(BasicSigner(), password, Basic(), username=username).header("Authorization") == header


@pytest.mark.parametrize(
    ("username", "password", "field"),
    [
        ("a:b", "password", "username"),
        ("a\nb", "password", "username"),
        ("a", "pass\r\nword", "password"),
        ("a", "pass\x7fword", "password"),
        ("a", "pass\ud800word", "password"),
    ],
)
def test_basic_refuses_what_rfc_7617_cannot_carry(username: str, password: str, field: str) -> None:
    with pytest.raises(SigningError) as caught:
        sign(BasicSigner(), password, Basic(), username=username)
    assert caught.value.field == field
    assert password not in str(caught.value)


def test_basic_needs_a_user_name() -> None:
    with pytest.raises(SigningError, match="user name"):
        sign(BasicSigner(), "password", Basic())


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (ApiKey(), ("X-API-Key", "k-1/2")),
        (ApiKey(header="X-Acme"), ("X-Acme", "k-1/2")),
        (ApiKey(header="Authorization", prefix="Token"), ("Authorization", "Token k-1/2")),
    ],
)
def test_api_key_stands_in_its_header_and_not_in_the_query(auth: ApiKey, header: tuple[str, str]) -> None:
    signed = sign(ApiKeySigner(), "k-1/2", auth)
    assert signed.headers[-1] == header
    assert signed.url == REQUEST.url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example/items", "https://api.example/items?key=k%2F1"),
        ("https://api.example/items?", "https://api.example/items?key=k%2F1"),
        ("https://api.example/items?a=1", "https://api.example/items?a=1&key=k%2F1"),
        ("https://api.example?a=1&&b=%7e&c", "https://api.example?a=1&&b=%7e&c&key=k%2F1"),
        ("https://api.example?key=old&a=1&key=", "https://api.example?a=1&key=k%2F1"),
        ("https://api.example?k%65y=old&key&a=1", "https://api.example?a=1&key=k%2F1"),
        ("https://api.example?keys=1&Key=2", "https://api.example?keys=1&Key=2&key=k%2F1"),
        ("HTTPS://API.example:443/%7Ea/?q=a?b", "HTTPS://API.example:443/%7Ea/?q=a?b&key=k%2F1"),
        ("https://api.example/a#part?key=1", "https://api.example/a?key=k%2F1#part?key=1"),
    ],
)
def test_api_key_stands_in_the_query_once_and_changes_no_other_byte(url: str, expected: str) -> None:
    signed = sign(ApiKeySigner(), "k/1", ApiKey(query="key"), HttpRequest("GET", url, REQUEST.headers))
    assert signed.url == expected
    assert signed.headers == REQUEST.headers


def test_api_key_is_never_sent_in_header_and_query_at_once() -> None:
    signed = sign(ApiKeySigner(), "the-key", ApiKey(header="X-API-Key", query="key"))
    assert signed.url.endswith("?key=the-key")
    assert signed.header("X-API-Key") is None


@given(st.text(min_size=1).filter(str.isprintable), st.text(min_size=1).filter(str.isprintable))
def test_api_key_is_read_back_from_the_query(name: str, secret: str) -> None:
    signed = sign(ApiKeySigner(), secret, ApiKey(query=name))
    assert parse_qsl(urlsplit(signed.url).query) == [(name, secret)]


def test_api_key_without_a_place_is_refused() -> None:
    with pytest.raises(SigningError, match="neither a header nor a query"):
        sign(ApiKeySigner(), "the-key", ApiKey(header=None))


def test_api_key_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(SigningError) as caught:
        sign(ApiKeySigner(), "the-key\ud800", ApiKey(query="key"))
    assert "the-key" not in str(caught.value)


def test_api_key_needs_its_own_record() -> None:
    with pytest.raises(SigningError, match="PersonalToken"):
        sign(ApiKeySigner(), "the-key", PersonalToken())


@pytest.mark.parametrize("tail", ["\r\nX-Injected: 1", "\n", "\r", "\0"])
@pytest.mark.parametrize(
    ("signer", "auth"),
    [(BearerSigner(), PersonalToken()), (ApiKeySigner(), ApiKey()), (ApiKeySigner(), ApiKey(prefix="Key"))],
)
def test_a_line_break_in_a_secret_is_refused_for_a_header(signer: Signer, auth: AuthSpec, tail: str) -> None:
    with pytest.raises(BadInput) as caught:
        sign(signer, "the-secret" + tail, auth)
    assert "the-secret" not in str(caught.value)


@given(st.text(ANY, max_size=30))
def test_no_secret_makes_a_signer_fail_untyped(secret: str) -> None:
    subjects: list[tuple[Signer, AuthSpec]] = [
        (BearerSigner(), PersonalToken()),
        (BasicSigner(), Basic()),
        (ApiKeySigner(), ApiKey()),
        (ApiKeySigner(), ApiKey(query="key")),
    ]
    for signer, auth in subjects:
        try:
            signed = sign(signer, secret, auth, username="me")
        except ServicesError:
            continue
        assert signed.url in (REQUEST.url, f"{REQUEST.url}?key={quote(secret, safe='')}")
        for name, value in signed.headers:
            assert not set(name + value) & set("\r\n\0")
