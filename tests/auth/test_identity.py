"""Whose account a credential belongs to."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth.identity import read_profile
from go_services_core.errors import ProfileNotFound
from go_services_core.http import Headers, HttpResponse
from go_services_core.model import UserProfile
from go_services_core.specs import Identity


def account(path: str, body: Any, headers: Headers = (), grants_header: str | None = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    identity = Identity(url="/user", account=path, grants_header=grants_header)
    profile, grants = read_profile(identity, HttpResponse(200, headers, raw), "acme")
    return profile.account_id, grants


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("id", {"id": "u-1"}, "u-1"),
        ("id", {"id": 583231}, "583231"),
        ("id", {"id": 12345678901234567890123}, "12345678901234567890123"),
        ("id", b'{"id": 9007199254740993}', "9007199254740993"),
        ("id", {"id": 0}, "0"),
        ("data.user.id", {"data": {"user": {"id": "u-1"}}, "id": "other"}, "u-1"),
        ("sub|id", {"id": "second", "sub": "first"}, "first"),
        ("sub | user.id", {"user": {"id": 7}}, "7"),
        ("sub|id", {"sub": None, "id": "second"}, "second"),
        ("sub|id", {"sub": "", "id": "second"}, "second"),
        ("sub|id", {"sub": {"x": 1}, "id": "second"}, "second"),
    ],
)
def test_account_id_is_found_and_keeps_every_digit(path: str, body: Any, expected: str) -> None:
    assert account(path, body) == (expected, None)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": None},
        {"id": ""},
        {"id": "  "},
        {"id": True},
        {"id": 1.5},
        {"id": ["u-1"]},
        {"ID": "u-1"},
        [{"id": "u-1"}],
        "u-1",
        None,
        b"",
        b"<html>u-1</html>",
        b"[" * 200_000,
    ],
)
def test_a_profile_without_id_is_typed(body: Any) -> None:
    with pytest.raises(ProfileNotFound) as caught:
        account("id", body)
    assert "u-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), None),
        ((("X-OAuth-Scopes", ""),), ()),
        ((("x-oauth-scopes", "repo, user:email"),), ("repo", "user:email")),
        ((("X-OAuth-Scopes", " repo ,,user"),), ("repo", "user")),
    ],
)
def test_grants_are_read_from_their_header(headers: Headers, expected: Any) -> None:
    assert account("id", {"id": 1}, headers, "X-OAuth-Scopes") == ("1", expected)


def test_grants_are_not_read_where_no_header_tells_them() -> None:
    assert account("id", {"id": 1}, (("X-OAuth-Scopes", "repo"),)) == ("1", None)


def profile(body: Any, **fields: Any) -> Any:
    identity = Identity(url="/user", **fields)
    return read_profile(identity, HttpResponse(200, (), json.dumps(body).encode()), "acme")[0]


def test_profile_has_what_the_provider_says_by_the_records_names() -> None:
    body = {"id": 7, "login": "ada", "name": "", "avatar": {"url": "https://p"}, "mail": "a@example.com", "lang": "de"}
    read = profile(
        body,
        issuer="https://acme.example",
        fields={"name": "name|login", "picture_url": "avatar.url", "email": "mail", "locale": "lang"},
    )
    assert read == UserProfile(
        provider_id="acme",
        issuer="https://acme.example",
        subject="7",
        email="a@example.com",
        name="ada",
        picture_url="https://p",
        locale="de",
        raw=body,
    )
    assert read.account_id == "https://acme.example|7"


@pytest.mark.parametrize(
    ("said", "expected"), [(True, True), ("true", True), (False, False), ("false", False), (1, None), ("yes", None)]
)
def test_address_is_verified_only_where_the_provider_says_so(said: Any, expected: Any) -> None:
    assert profile({"id": "1", "email": "a@example.com", "email_verified": said}).email_verified is expected


def test_name_is_made_of_its_parts_where_it_is_not_told() -> None:
    assert profile({"id": "1", "given_name": "Ada", "family_name": "L."}).name == "Ada L."
    assert profile({"id": "1", "given_name": "Ada"}).name == "Ada"
    assert profile({"id": "1"}).name is None


def test_field_that_no_profile_has_is_refused() -> None:
    with pytest.raises(ValueError, match="phone"):
        Identity(url="/user", fields={"phone": "tel"})


@given(body=st.binary())
def test_no_profile_fails_untyped(body: bytes) -> None:
    with suppress(ProfileNotFound):
        account("id|sub", body)
