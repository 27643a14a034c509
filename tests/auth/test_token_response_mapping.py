"""Token answers of vendors that have their fields elsewhere, and what is made of fields that vendors invent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_core.auth.token_response import parse_token_response
from go_services_core.errors import InvalidGrant, ServicesError, TokenEndpointError, TokenResponseInvalid
from go_services_core.http import HttpResponse
from go_services_core.model import TokenSet
from go_services_core.secret import SecretStr

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SLACK = {
    "access_token": "authed_user.access_token|access_token",
    "refresh_token": "authed_user.refresh_token|refresh_token",
    "scope": "authed_user.scope|scope",
}


def read(said: Any, paths: dict[str, str], **more: Any) -> TokenSet:
    status = more.pop("status", 200)
    return parse_token_response(HttpResponse(status, (), json.dumps(said).encode()), now=NOW, paths=paths, **more)


def test_fields_are_read_where_the_record_says() -> None:
    said = {
        "ok": True,
        "access_token": "bot",
        "scope": "bot:write",
        "authed_user": {"access_token": "at-1", "refresh_token": "rt-1", "scope": "chat:write,users:read"},
    }
    tokens = read(said, SLACK)
    assert (tokens.access_token, tokens.refresh_token) == (SecretStr("at-1"), SecretStr("rt-1"))
    assert tokens.granted == ("chat:write", "users:read")


def test_alternatives_are_tried_in_their_order() -> None:
    assert read({"access_token": "at-2"}, SLACK).access_token == SecretStr("at-2")


def test_field_that_is_mapped_is_read_nowhere_else() -> None:
    paths = {"access_token": "data.access_token", "refresh_token": "data.refresh_token"}
    with pytest.raises(TokenResponseInvalid):
        read({"access_token": "another's"}, paths)
    tokens = read({"refresh_token": "another's", "data": {"access_token": "at-1"}}, paths)
    assert tokens.refresh_token is None


def test_lifetime_is_read_where_the_record_says() -> None:
    paths = {"expires_in": "data.expires_in", "refresh_token_expires_in": "x_refresh_token_expires_in"}
    tokens = read({"access_token": "a", "data": {"expires_in": "60"}, "x_refresh_token_expires_in": 8726400}, paths)
    assert tokens.expires_at == NOW + timedelta(seconds=60)
    assert tokens.refresh_expires_at == NOW + timedelta(days=101)


@pytest.mark.parametrize("status", [200, 400])
def test_error_is_read_where_the_record_says(status: int) -> None:
    paths = {"error": "data.code", "error_description": "data.message", "access_token": "data.token"}
    said = {"data": {"code": "invalid_grant", "message": "rt-0123456789 is over"}}
    with pytest.raises(InvalidGrant) as caught:
        read(said, paths, status=status, sent=(SecretStr("rt-0123456789"),))
    assert "is over" in str(caught.value)
    assert "0123456789" not in str(caught.value)  # P42


def test_an_error_of_its_own_is_read_from_a_nested_one() -> None:
    with pytest.raises(TokenEndpointError) as caught:
        read({"error": {"code": "invalid_client"}}, {"error": "error.code"}, status=400)
    assert caught.value.error == "invalid_client"


def test_values_that_are_kept_besides_are_secrets() -> None:  # P46
    paths = {"instance_url": "instance_url", "team": "team.id", "number": "n", "absent": "x", "odd": "team", "no": "e"}
    said = {"access_token": "a", "instance_url": "https://eu1.example", "team": {"id": "T1"}, "n": 7, "e": ""}
    tokens = read({**said, "secret_of_theirs": "never-kept"}, paths)
    assert {name: value.reveal() for name, value in tokens.extra.items()} == {
        "instance_url": "https://eu1.example",
        "team": "T1",
        "number": "7",
    }
    assert "eu1" not in repr(tokens)
    assert "never-kept" not in str({name: value.reveal() for name, value in tokens.extra.items()})


def test_nothing_is_kept_that_the_record_does_not_name() -> None:
    assert read({"access_token": "a", "instance_url": "x"}, {}).extra == {}


@pytest.mark.parametrize(
    ("said", "life"),
    [
        ({"refresh_token_expires_in": 60}, timedelta(seconds=60)),
        ({"refresh_expires_in": "60"}, timedelta(seconds=60)),
        ({"refresh_expires_in": 0}, None),  # Keycloak's offline token
        ({"refresh_token_expires_in": 60, "refresh_expires_in": 90}, timedelta(seconds=60)),
        ({}, None),
    ],
)
def test_life_of_the_refresh_token_is_read(said: dict[str, Any], life: timedelta | None) -> None:
    tokens = read({"access_token": "a", "refresh_token": "r", **said}, {})
    assert tokens.refresh_expires_at == (None if life is None else NOW + life)


def test_refresh_token_that_is_the_access_token_is_none() -> None:  # P16
    assert read({"access_token": "same", "refresh_token": "same"}, {}).refresh_token is None


@pytest.mark.parametrize(
    ("separator", "scope", "granted"),
    [("|", "Read|Write", ("Read", "Write")), (";", "a;b c", ("a", "b", "c")), ("", "a b", ("a", "b"))],
)
def test_scopes_are_split_at_the_providers_separator_and_keep_their_case(
    separator: str, scope: str, granted: tuple[str, ...]
) -> None:
    assert read({"access_token": "a", "scope": scope}, {}, scope_separator=separator).granted == granted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["access_token", "refresh_token", "expires_in", "scope", "error", "data", "own", "id_token"])
SAID = st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=4), max_size=6)
PATHS = st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=3).map(".".join) | st.text(), max_size=4)


def texts(value: Any) -> set[str]:
    """Every text and number that is somewhere in a JSON value."""
    if isinstance(value, dict):
        return set().union(*(texts(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(texts(item) for item in value))
    return {str(value)}


@settings(deadline=None)
@given(said=SAID, paths=PATHS)
def test_nothing_is_invented_and_nothing_fails_untyped(said: dict[str, Any], paths: dict[str, str]) -> None:
    try:
        tokens = read({"data": {"access_token": "at-1"}, **said}, {"access_token": "data.access_token", **paths})
    except ServicesError:
        return
    there = texts(said) | {"at-1"}
    secrets = (tokens.access_token, tokens.refresh_token, tokens.id_token, *tokens.extra.values())
    assert {secret.reveal() for secret in secrets if secret is not None} <= there
    assert tokens.refresh_token != tokens.access_token
    for scope in tokens.granted or ():
        assert any(scope in text for text in there)
