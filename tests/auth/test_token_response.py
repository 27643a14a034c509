"""Reading token endpoints' answers, in every form that vendors send."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_core.auth.token_response import parse_token_response
from go_services_core.errors import (
    InvalidGrant,
    ProviderUnavailable,
    RateLimited,
    ServicesError,
    TokenEndpointError,
    TokenResponseInvalid,
)
from go_services_core.http import Headers, HttpResponse
from go_services_core.model import TokenSet
from go_services_core.secret import SecretStr

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINIMAL = {"access_token": "at-1"}


def answer(
    body: bytes | Any, *, status: int = 200, kind: str = "application/json", headers: Headers = ()
) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpResponse(status, (("Content-Type", kind), *headers), raw)


def read(body: bytes | Any, **more: Any) -> TokenSet:
    options = {name: more.pop(name) for name in ("default_lifetime", "refreshing", "sent") if name in more}
    return parse_token_response(answer(body, **more), now=NOW, **options)


@pytest.mark.parametrize(
    "kind", ["application/json", "text/html", "text/plain", "application/x-www-form-urlencoded", ""]
)
def test_json_is_read_whatever_the_content_type_says(kind: str) -> None:
    tokens = read({"access_token": "at-1", "token_type": "Bearer", "scope": "a b"}, kind=kind)
    assert tokens.access_token == SecretStr("at-1")
    assert tokens.token_type == "bearer"
    assert tokens.granted == ("a", "b")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_is_read_whatever_the_content_type_says(kind: str) -> None:
    body = urlencode({"access_token": "at/1+", "expires_in": "60", "scope": "a,b"}).encode()
    tokens = read(body, kind=kind)
    assert tokens.access_token == SecretStr("at/1+")
    assert tokens.expires_at == NOW + timedelta(seconds=60)
    assert tokens.granted == ("a", "b")


def test_every_field_of_the_answer_is_kept() -> None:
    tokens = read(
        {
            "access_token": "at-1",
            "token_type": "DPoP",
            "refresh_token": "rt-1",
            "expires_in": 60,
            "refresh_token_expires_in": "120",
            "id_token": "a.b.c",
            "scope": "a",
        }
    )
    assert tokens == TokenSet(
        access_token=SecretStr("at-1"),
        token_type="dpop",
        refresh_token=SecretStr("rt-1"),
        expires_at=NOW + timedelta(seconds=60),
        refresh_expires_at=NOW + timedelta(seconds=120),
        granted=("a",),
        id_token=SecretStr("a.b.c"),
    )


@pytest.mark.parametrize(
    "more", [{}, {"refresh_token": ""}, {"refresh_token": None}, {"refresh_token": 7}, {"id_token": ""}]
)
def test_what_the_answer_leaves_out_reads_as_unchanged(more: dict[str, Any]) -> None:  # P15
    assert read({**MINIMAL, **more}) == TokenSet(access_token=SecretStr("at-1"))


HOUR, DEFAULT = timedelta(hours=1), timedelta(minutes=10)


@pytest.mark.parametrize(
    ("value", "life"),
    [
        (3600, HOUR),
        (3600.0, HOUR),
        ("3600", HOUR),
        ("3600.0", HOUR),
        (" 3600 ", HOUR),
        (0.5, timedelta(seconds=0.5)),
        (None, DEFAULT),
        (0, DEFAULT),
        (-1, DEFAULT),
        ("0", DEFAULT),
        ("", DEFAULT),
        ("soon", DEFAULT),
        (float("nan"), DEFAULT),
        (float("inf"), DEFAULT),
        ("-inf", DEFAULT),
        (True, DEFAULT),
        ([3600], DEFAULT),
        ({"seconds": 3600}, DEFAULT),
        (100 * 365 * 86400, timedelta(days=36500)),
        (100 * 365 * 86400 + 1, None),
        (10**12, None),
        (10**400, None),
    ],
)
def test_lifetime_takes_numbers_and_text(value: Any, life: timedelta | None) -> None:  # P15
    tokens = read({**MINIMAL, "expires_in": value}, default_lifetime=600.0)
    assert tokens.expires_at == (None if life is None else NOW + life)


def test_lifetime_absent_takes_the_default_or_does_not_end() -> None:
    assert read(MINIMAL, default_lifetime=600.0).expires_at == NOW + DEFAULT
    assert read(MINIMAL).expires_at is None


def test_the_default_lifetime_is_not_the_refresh_tokens() -> None:
    assert read(MINIMAL, default_lifetime=600.0).refresh_expires_at is None


@pytest.mark.parametrize(
    ("scope", "exchanged", "refreshed"),
    [
        ("a b", ("a", "b"), ("a", "b")),
        ("a,b", ("a", "b"), ("a", "b")),
        (" a,  b a ", ("a", "b"), ("a", "b")),
        (["a", "b", "a"], ("a", "b"), ("a", "b")),
        (["a", 1, None, ""], ("a",), ("a",)),
        ("", (), None),
        (" , ", (), None),
        ([], (), None),
        (None, None, None),
        (7, None, None),
    ],
)
def test_scope_takes_text_and_lists(scope: Any, exchanged: Any, refreshed: Any) -> None:
    assert read({**MINIMAL, "scope": scope}).granted == exchanged
    assert read({**MINIMAL, "scope": scope}, refreshing=True).granted == refreshed


def test_scope_absent_means_unchanged() -> None:  # RFC 6749 §5.1
    assert read(MINIMAL).granted is None
    assert read(MINIMAL, refreshing=True).granted is None


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 503])
@pytest.mark.parametrize("form", [True, False])
def test_invalid_grant_is_typed_whatever_the_status(status: int, form: bool) -> None:
    fields = {"error": "invalid_grant", "error_description": "Token has been revoked."}
    with pytest.raises(InvalidGrant) as caught:
        read(urlencode(fields).encode() if form else fields, status=status)
    assert caught.value.error == "invalid_grant"
    assert "Token has been revoked." in str(caught.value)


@pytest.mark.parametrize("code", ["invalid_client", "bad_verification_code", "temporarily_unavailable"])
def test_any_other_error_does_not_end_the_grant(code: str) -> None:  # P17
    with pytest.raises(TokenEndpointError) as caught:
        read({"error": code, "access_token": "at-1"})
    assert type(caught.value) is TokenEndpointError
    assert caught.value.error == code


@pytest.mark.parametrize(
    "error", ["invalid_grant\r\nX: 1", "a" * 81, 'say "x"', "ä", {"code": 190}, ["invalid_grant"], 7, True]
)
def test_an_error_code_outside_the_rfc_is_not_repeated(error: Any) -> None:
    with pytest.raises(TokenEndpointError) as caught:
        read({"error": error}, status=400)
    assert type(caught.value) is TokenEndpointError
    assert caught.value.error == "an unreadable error code"


@pytest.mark.parametrize("error", ["", None, False, 0, []])
def test_an_empty_error_is_none(error: Any) -> None:
    assert read({**MINIMAL, "error": error}).access_token == SecretStr("at-1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, ProviderUnavailable), (502, ProviderUnavailable), (503, ProviderUnavailable), (429, RateLimited)],
)
@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"{}", b'{"message":"busy"}', b'{"access_token":"at-1"}'])
def test_a_failing_endpoint_is_told_from_a_refusal(status: int, kind: type[ServicesError], body: bytes) -> None:  # P17
    with pytest.raises(kind) as caught:
        read(body, status=status)
    assert caught.value.retryable
    assert getattr(caught.value, "upstream_status") == status  # noqa: B009


def test_a_rate_limit_carries_its_wait() -> None:
    with pytest.raises(RateLimited) as caught:
        read(b"", status=429, headers=(("Retry-After", "7"),))
    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "", 200),
        (b"", "application/json", 204),
        (b"<html><a href='?access_token=x'>ok</a></html>", "text/html", 200),
        (b"access_token=at-1", "text/html; charset=utf-8", 200),
        (b"Service is fine", "text/plain", 200),
        (b"\xff\xfe\x00", "application/x-www-form-urlencoded", 200),
        (b"null", "application/json", 200),
        (b'["at-1"]', "application/json", 200),
        (b'"at-1"', "application/json", 200),
        (b"{}", "application/json", 200),
        (b'{"access_token":""}', "application/json", 200),
        (b'{"access_token":7}', "application/json", 200),
        (b'{"access_token":"a\\r\\nb"}', "application/json", 200),
        (b'{"access_token":"\\ud800"}', "application/json", 200),
        (b'{"access_token":"a","refresh_token":"b\\u0000"}', "application/json", 200),
        (b'{"access_token":"at-1"}', "application/json", 302),
        (b'{"access_token":"at-1"}', "application/json", 400),
        (b"not found", "text/plain", 404),
        (b"[" * 200_000, "application/json", 200),
    ],
)
def test_what_is_no_token_answer_is_typed(body: bytes, kind: str, status: int) -> None:
    with pytest.raises(TokenResponseInvalid) as caught:
        read(body, kind=kind, status=status)
    assert "at-1" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "client secret 's3cr/et+value=' is wrong",
        "got s3cr%2Fet%2Bvalue%3D",
        "s3cr/et+value= and rt-0123456789",
        "line\r\nbreak s3cr/et+value=",
    ],
)
@pytest.mark.parametrize("form", [True, False])
def test_secrets_that_the_endpoint_echoes_are_removed(said: str, form: bool) -> None:  # P42
    fields = {"error": "invalid_client", "error_description": said}
    sent = (SecretStr("s3cr/et+value="), None, SecretStr("rt-0123456789"))
    with pytest.raises(TokenEndpointError) as caught:
        read(urlencode(fields).encode() if form else fields, status=400, sent=sent)
    shown = f"{caught.value} {caught.value!r} {caught.value.as_dict()}"
    for piece in ("s3cr/et", "s3cr%2F", "0123456789", "\r", "\n"):
        assert piece not in shown


def test_a_secret_in_the_place_of_the_error_code_is_removed() -> None:
    with pytest.raises(TokenEndpointError) as caught:
        read({"error": "unknown token rt-0123456789"}, status=400, sent=iter([SecretStr("rt-0123456789")]))
    assert "rt-0123456789" not in f"{caught.value} {caught.value.error}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = (
    "access_token refresh_token id_token token_type expires_in refresh_token_expires_in scope error error_description"
)
FIELDS = st.dictionaries(
    st.sampled_from(NAMES.split()),
    JSON,
)


@settings(deadline=None)
@given(body=st.binary() | FIELDS.map(lambda fields: json.dumps(fields).encode()), status=st.integers(100, 599))
def test_no_answer_fails_untyped(body: bytes, status: int) -> None:
    for kind in ("application/json", "text/html", ""):
        try:
            tokens = read(body, status=status, kind=kind, sent=(SecretStr("sent-secret"),))
        except ServicesError:
            continue
        assert 200 <= status < 300
        assert tokens.access_token


@settings(deadline=None)
@given(fields=FIELDS)
def test_what_is_read_can_stand_in_a_header_and_in_a_form(fields: dict[str, Any]) -> None:
    try:
        tokens = read({"access_token": "at-1", **fields})
    except ServicesError:
        return
    for token in (tokens.access_token, tokens.refresh_token, tokens.id_token):
        assert token is None or (token.reveal().isascii() and token.reveal().isprintable())
    assert tokens.expires_at is None or tokens.expires_at >= NOW
