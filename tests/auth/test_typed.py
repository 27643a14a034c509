"""Credentials that a person types in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth.fields import concealed
from go_services_core.auth.typed import ApiKeyFlow, BasicFlow, PersonalTokenFlow
from go_services_core.auth_specs import ApiKey, AuthSpec, Basic, PersonalToken
from go_services_core.errors import BadInput, ReauthRequired
from go_services_core.http import check_header
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext, AuthFlow
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock

from .driving import run

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

KINDS: list[tuple[AuthFlow, AuthSpec, dict[str, str]]] = [
    (ApiKeyFlow(), ApiKey(), {"key": "the-key"}),
    (PersonalTokenFlow(), PersonalToken(), {"token": "the-token"}),
    (BasicFlow(), Basic(), {"username": "aladdin", "password": "open sesame"}),
]
each_kind = pytest.mark.parametrize(("flow", "auth", "fields"), KINDS, ids=[auth.kind for _, auth, _ in KINDS])


def context(auth: AuthSpec) -> AuthContext:
    return AuthContext(
        provider_id="acme",
        auth=auth,
        settings=None,
        scope=Scope("user", "u1"),
        now=datetime(2026, 1, 1, tzinfo=UTC),
        random=FrozenClock().random,
    )


def refused(flow: AuthFlow, auth: AuthSpec, params: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        run(flow.complete(context(auth), concealed(params)))
    return caught.value


@pytest.mark.parametrize(
    ("flow", "auth", "fields", "expected"),
    [
        (*KINDS[0], TokenSet(access_token=SecretStr("the-key"), token_type="api_key")),
        (*KINDS[1], TokenSet(access_token=SecretStr("the-token"), token_type="pat")),
        (
            *KINDS[2],
            TokenSet(
                access_token=SecretStr("open sesame"), token_type="basic", extra={"username": SecretStr("aladdin")}
            ),
        ),
    ],
)
def test_fields_become_tokens_without_a_request(
    flow: AuthFlow, auth: AuthSpec, fields: dict[str, str], expected: TokenSet
) -> None:
    assert run(flow.complete(context(auth), concealed(fields))) == (expected, [])


@each_kind
def test_the_flow_names_the_fields_that_it_takes(flow: AuthFlow, auth: AuthSpec, fields: dict[str, str]) -> None:
    assert flow.fields == tuple(fields)
    assert flow.interactive is False


@each_kind
def test_missing_and_unknown_fields_are_named_at_once(flow: AuthFlow, auth: AuthSpec, fields: dict[str, str]) -> None:
    for name in fields:
        for params in ({**fields, name: ""}, {other: value for other, value in fields.items() if other != name}):
            error = refused(flow, auth, {**params, "secret": "s3cret-value"})
            assert f"{name} is missing" in str(error)
            assert "secret is not a field" in str(error)
            assert error.field == name
            assert "s3cret-value" not in str(error)


@each_kind
@pytest.mark.parametrize(
    "spoil", [" {}", "{} ", "{}\n", "\t{}", "{}\r\nX: 1", "a\n{}", "{}\0b", "{}\ud800", 7, b"{}", ["{}"]]
)
def test_what_was_pasted_wrong_is_refused_without_repeating_it(
    flow: AuthFlow, auth: AuthSpec, fields: dict[str, str], spoil: Any
) -> None:
    for name, value in fields.items():
        error = refused(flow, auth, {**fields, name: spoil.format(value) if isinstance(spoil, str) else spoil})
        assert error.field == name
        assert value not in str(error)


def test_user_name_with_a_colon_is_refused_and_password_with_one_is_taken() -> None:  # RFC 7617 §2
    flow, auth, _ = KINDS[2]
    assert refused(flow, auth, {"username": "a:b", "password": "p"}).field == "username"
    tokens, _ = run(flow.complete(context(auth), concealed({"username": "a", "password": "p:q"})))
    assert tokens.access_token == SecretStr("p:q")


@each_kind
def test_there_is_no_consent_page_nothing_to_renew_and_nothing_to_give_back(
    flow: AuthFlow, auth: AuthSpec, fields: dict[str, str]
) -> None:
    tokens, _ = run(flow.complete(context(auth), concealed(fields)))
    held = Credential(connection_id="c1", version=1, auth_kind=auth.kind, tokens=tokens)
    with pytest.raises(BadInput, match=f"{auth.kind}.*{', '.join(fields)}"):
        run(flow.begin(context(auth)))
    with pytest.raises(ReauthRequired):
        run(flow.refresh(context(auth), held))
    assert run(flow.revoke(context(auth), held)) == (False, [])


@given(st.text(ANY))
def test_what_is_taken_can_stand_in_a_header(text: str) -> None:
    flow, auth, _ = KINDS[0]
    try:
        tokens, _ = run(flow.complete(context(auth), concealed({"key": text})))
    except BadInput:
        return
    assert tokens.access_token.reveal() == text
    check_header("X-API-Key", text)
    text.encode()
