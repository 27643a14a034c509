"""The plaintext inside sealed rows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.errors import CannotOpen
from go_services_core.http import InboundRequest
from go_services_core.model import Connection, Credential, KeyRef, Scope, Sealed, SealedCredential, TokenSet
from go_services_core.runtime.payload import (
    CREDENTIAL_FORMAT,
    CREDENTIAL_VERSION,
    carry_over,
    decode_credential,
    decode_memory,
    decode_request,
    encode_memory,
    encode_request,
    encode_tokens,
)
from go_services_core.secret import SecretBytes, SecretStr

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
CONNECTION = Connection(
    id="c1",
    provider_id="acme",
    auth_kind="oauth2_auth_code",
    scope=Scope("user", "u1"),
    external_account_id="7",
    status="active",
    created_at=NOW,
    updated_at=NOW,
)


def row(tokens: TokenSet, **more: Any) -> SealedCredential:
    fields: dict[str, Any] = {
        "id": "k1",
        "connection_id": "c1",
        "version": 3,
        "sealed": Sealed(b"", KeyRef("b", "k", 1)),
        "payload_format": CREDENTIAL_FORMAT,
        "payload_version": CREDENTIAL_VERSION,
        "token_type": tokens.token_type,
        "requested": ("read",),
        "granted": tokens.granted,
        "expires_at": tokens.expires_at,
        "refresh_expires_at": tokens.refresh_expires_at,
        "refreshable": True,
        "created_at": NOW,
    }
    return SealedCredential(**{**fields, **more})


SECRETS = st.text(ANY).map(SecretStr)
TOKENS = st.builds(
    TokenSet,
    access_token=SECRETS,
    token_type=st.sampled_from(["bearer", "pat"]),
    refresh_token=st.none() | SECRETS,
    expires_at=st.none() | st.just(NOW),
    refresh_expires_at=st.none() | st.just(LATER),
    granted=st.none() | st.lists(st.text()).map(tuple),
    id_token=st.none() | SECRETS,
    extra=st.dictionaries(st.text(), SECRETS, max_size=3),
)


@given(tokens=TOKENS)
def test_a_credential_is_read_back_as_it_was_written(tokens: TokenSet) -> None:
    assert decode_credential(SecretBytes(encode_tokens(tokens)), row(tokens), CONNECTION) == Credential(
        connection_id="c1",
        version=3,
        auth_kind="oauth2_auth_code",
        tokens=tokens,
        requested=("read",),
        granted=tokens.granted,
        refreshable=True,
    )


def test_the_plaintext_holds_the_secrets_and_nothing_that_the_row_has() -> None:
    tokens = TokenSet(access_token=SecretStr("a"), refresh_token=SecretStr("r"), expires_at=NOW, granted=("read",))
    assert json.loads(encode_tokens(tokens)) == {"access_token": "a", "refresh_token": "r"}


@pytest.mark.parametrize("change", [{"payload_format": "other"}, {"payload_version": 2}, {"payload_version": 0}])
def test_another_format_is_refused_before_it_is_read(change: dict[str, Any]) -> None:
    tokens = TokenSet(access_token=SecretStr("a"))
    with pytest.raises(CannotOpen, match="c1"):
        decode_credential(SecretBytes(b"not json"), row(tokens, **change), CONNECTION)


OLD = TokenSet(
    access_token=SecretStr("at-1"),
    refresh_token=SecretStr("rt-1"),
    expires_at=NOW,
    refresh_expires_at=LATER,
    granted=("read",),
    id_token=SecretStr("id-1"),
    extra={"a": SecretStr("1"), "b": SecretStr("1")},
)
NEW = TokenSet(access_token=SecretStr("at-2"))


@pytest.mark.parametrize(
    ("answered", "changes"),
    [
        ({}, {"expires_at": None}),
        ({"expires_at": LATER}, {"expires_at": LATER}),
        ({"refresh_token": SecretStr("rt-2")}, {"refresh_token": SecretStr("rt-2"), "refresh_expires_at": None}),
        ({"refresh_expires_at": NOW}, {"refresh_expires_at": NOW}),
        ({"granted": ()}, {"granted": ()}),
        ({"granted": ("read", "write")}, {"granted": ("read", "write")}),
        ({"id_token": SecretStr("id-2")}, {"id_token": SecretStr("id-2")}),
        ({"token_type": "dpop"}, {"token_type": "dpop"}),
        (
            {"extra": {"b": SecretStr("2"), "c": SecretStr("2")}},
            {"extra": {"a": SecretStr("1"), "b": SecretStr("2"), "c": SecretStr("2")}},
        ),
    ],
)
def test_what_an_answer_leaves_out_is_kept_from_before(answered: Any, changes: Any) -> None:  # P15
    expected = evolve(OLD, access_token=SecretStr("at-2"), **{"expires_at": None, **changes})
    assert carry_over(evolve(NEW, **answered), OLD) == expected


def test_nothing_is_invented_where_there_was_nothing() -> None:
    assert carry_over(NEW, TokenSet(access_token=SecretStr("at-1"))) == NEW


@given(st.dictionaries(st.text(), SECRETS))
def test_what_a_flow_remembers_is_read_back(memory: dict[str, SecretStr]) -> None:
    assert decode_memory(SecretBytes(encode_memory(memory))) == memory


@given(
    method=st.text(),
    target=st.text(ANY),
    headers=st.lists(st.tuples(st.text(), st.text(ANY))).map(tuple),
    body=st.binary(),
)
def test_a_delivery_is_read_back_to_the_byte(method: str, target: str, headers: Any, body: bytes) -> None:
    request = InboundRequest(method, target, headers, body)
    assert decode_request(SecretBytes(encode_request(request))) == request
