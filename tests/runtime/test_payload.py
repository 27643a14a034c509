"""The plaintext inside sealed rows."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.errors import CannotOpen
from go_services_core.http import InboundRequest
from go_services_core.model import Connection, Credential, KeyRef, Scope, Sealed, SealedCredential, TokenSet
from go_services_core.runtime import payload
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
    is_current,
    to_current,
)
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.wrapping_keys import SealedRow

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


@pytest.mark.parametrize(
    "change",
    [
        {"payload_format": "other"},
        {"payload_format": ""},
        {"payload_format": "legacy_token"},
        {"payload_format": "active_credential_json"},
        {"payload_version": 2},
    ],
)
def test_another_format_is_refused_before_it_is_read(change: dict[str, Any]) -> None:
    """The format is not authenticated: a row with a backend is never read in a format of the Go system (P51)."""
    tokens = TokenSet(access_token=SecretStr("a"))
    with pytest.raises(CannotOpen, match=r"connection c1 has the payload format '.*' version \d, which this release"):
        decode_credential(SecretBytes(encode_tokens(tokens)), row(tokens, **change), CONNECTION)


@pytest.mark.parametrize("change", [{"payload_format": " TOKEN_SET_JSON"}, {"payload_version": 0}])
def test_case_of_the_format_and_a_version_below_1_do_not_matter(change: dict[str, Any]) -> None:
    tokens = TokenSet(access_token=SecretStr("a"))
    assert decode_credential(SecretBytes(encode_tokens(tokens)), row(tokens, **change), CONNECTION).tokens == tokens


# --- what the Go system wrote ---------------------------------------------------------------------------------------

GO_FORMAT = "active_credential_json"
ROW = {
    "token_type": "bearer",
    "requested": ("from-row", "r2"),
    "granted": ("from-row",),
    "expires_at": LATER,
    "refreshable": False,
}
"""What a row of the Go system says beside its payload."""
FILE = Path(__file__).parents[2] / "plugins" / "envelope" / "tests" / "go_envelopes" / "samples.json"
SAMPLES = {sample["name"]: sample for sample in json.loads(FILE.read_text("utf-8"))}


def adopted(format: str, **more: Any) -> SealedCredential:
    sealed = Sealed(b"", KeyRef("", "app-key", 1))
    fields: dict[str, Any] = {"sealed": sealed, "payload_format": format, **ROW, **more}
    return row(TokenSet(access_token=SecretStr("")), **fields)


def decode(plaintext: str, format: str = GO_FORMAT, **more: Any) -> Credential:
    return decode_credential(SecretBytes(plaintext.encode()), adopted(format, **more), CONNECTION)


def test_every_field_of_the_go_system_is_read() -> None:
    assert decode(SAMPLES["a credential with every field"]["plaintext"]) == Credential(
        connection_id="c1",
        version=3,
        auth_kind="oauth2_auth_code",
        tokens=TokenSet(
            access_token=SecretStr("go_at_every_field"),
            token_type="bearer",
            refresh_token=SecretStr("go_rt_every_field"),
            expires_at=datetime(2027, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            granted=("repo",),
            id_token=SecretStr("go_id_every_field"),
            extra={
                "aws_access_key_id": SecretStr("go_aws_id"),
                "aws_secret_access_key": SecretStr("go_aws_secret"),
                "signing_key": SecretStr("go_signing_key"),
                "profile": SecretStr('{"login":"octocat","raw":{"id":7}}'),
                "retries": SecretStr("3"),
            },
        ),
        requested=("repo", "user"),
        granted=("repo",),
        refreshable=True,
    )


def test_fields_that_are_left_out_are_filled_from_the_row() -> None:
    credential = decode(SAMPLES["a credential with few fields"]["plaintext"])
    assert credential.tokens == TokenSet(
        access_token=SecretStr("go_at_few_fields"), token_type="bearer", expires_at=LATER, granted=("from-row",)
    )
    assert (credential.requested, credential.granted, credential.refreshable) == (
        ("from-row", "r2"),
        ("from-row",),
        False,
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("token_type", "dpop", lambda credential: credential.tokens.token_type == "dpop"),
        ("requested_scopes", ["a"], lambda credential: credential.requested == ("a",)),
        ("granted_scopes", ["a"], lambda credential: credential.tokens.granted == credential.granted == ("a",)),
        ("expires_at", "2026-01-01T02:00:00+02:00", lambda credential: credential.tokens.expires_at == NOW),
        ("connection_id", " c1 ", lambda credential: credential.connection_id == "c1"),
        ("access_token", " a ", lambda credential: credential.tokens.access_token == SecretStr("a")),
        ("refresh_token", " ", lambda credential: credential.tokens.refresh_token is None),
        ("metadata", {"id_token": ""}, lambda credential: credential.tokens.id_token is None),
        ("metadata", {"id_token": 1}, lambda credential: credential.tokens.extra == {"id_token": SecretStr("1")}),
        ("rotates_at", "2026-01-01T00:00:00Z", lambda credential: credential.tokens.expires_at == LATER),
    ],
)
def test_what_the_payload_says_goes_before_the_row(field: str, value: Any, said: Callable[[Credential], bool]) -> None:
    assert said(decode(json.dumps({"access_token": "a", field: value})))


@pytest.mark.parametrize(("payload", "row"), [(True, True), (True, False), (False, True), (False, False)])
def test_it_can_be_refreshed_if_payload_or_row_says_so(payload: bool, row: bool) -> None:
    text = json.dumps({"access_token": "a", "refreshable": payload})
    assert decode(text, refreshable=row).refreshable is (payload or row)


def test_credential_without_access_token_keeps_its_keys() -> None:
    credential = decode('{"refreshable": false, "metadata": {"aws_access_key_id": "id"}}', token_type="aws_sigv4")
    assert credential.tokens.access_token == SecretStr("")
    assert credential.tokens.extra == {"aws_access_key_id": SecretStr("id")}


@pytest.mark.parametrize("change", [{}, {"payload_format": ""}, {"payload_version": 0}, {"payload_version": -1}])
def test_bare_token_is_an_access_token_with_all_else_from_the_row(change: dict[str, Any]) -> None:
    sample = SAMPLES["a bare token"]["plaintext"]
    for format in ("legacy_token", " Legacy_Token "):
        credential = decode(f" {sample}\n", **{"format": format, "refreshable": True, **change})
        assert credential.tokens == TokenSet(
            access_token=SecretStr("go_at_bare"), token_type="bearer", expires_at=LATER, granted=("from-row",)
        )
        assert credential.refreshable


@pytest.mark.parametrize(
    ("format", "version"),
    [
        ("token_set_json", 1),
        ("active_credential_json", 2),
        ("legacy_token", 2),
        ("active_credential", 1),
        ("custom", 1),
    ],
)
def test_format_that_the_go_system_did_not_write_is_named_not_guessed(format: str, version: int) -> None:
    with pytest.raises(CannotOpen, match=f"connection c1 has the payload format '{format}' version {version}"):
        decode('{"access_token": "hunter2"}', format, payload_version=version)


def test_payload_that_names_another_connection_is_refused() -> None:
    """P50: all that the Go system binds a refreshed credential by."""
    with pytest.raises(CannotOpen, match="connection c1 opens, but names another connection"):
        decode('{"access_token": "hunter2", "connection_id": "c2"}')


MALFORMED = [
    ("", GO_FORMAT),
    ("hunter2", GO_FORMAT),
    ('{"access_token": "hunter2"', GO_FORMAT),
    ('["hunter2"]', GO_FORMAT),
    ('"hunter2"', GO_FORMAT),
    ("null", GO_FORMAT),
    ('{"access_token": 1, "refresh_token": "hunter2"}', GO_FORMAT),
    ('{"access_token": null, "refresh_token": "hunter2"}', GO_FORMAT),
    ('{"access_token": "hunter2", "unknown": 1}', GO_FORMAT),
    ('{"access_token": "hunter2", "requested_scopes": "repo"}', GO_FORMAT),
    ('{"access_token": "hunter2", "granted_scopes": [1]}', GO_FORMAT),
    ('{"access_token": "hunter2", "refreshable": 1}', GO_FORMAT),
    ('{"access_token": "hunter2", "metadata": []}', GO_FORMAT),
    ('{"access_token": "hunter2", "metadata": {"a": NaN}}', GO_FORMAT),
    ('{"access_token": "hunter2", "expires_at": 1700000000}', GO_FORMAT),
    ('{"access_token": "hunter2", "expires_at": "tomorrow"}', GO_FORMAT),
    ('{"access_token": "hunter2", "expires_at": "2026-01-01T00:00:00"}', GO_FORMAT),
    ('{"access_token": "hunter2", "expires_at": "0001-01-01T00:00:00+14:00"}', GO_FORMAT),
    ('{"access_token": "hunter2", "rotates_at": "soon"}', GO_FORMAT),
    ('{"access_token": "hunter2", "metadata": ' + "[" * 100_000, GO_FORMAT),
    ("", "legacy_token"),
    (" \n", "legacy_token"),
    ("", CREDENTIAL_FORMAT),
    ("hunter2", CREDENTIAL_FORMAT),
    ('["hunter2"]', CREDENTIAL_FORMAT),
    ('"hunter2"', CREDENTIAL_FORMAT),
    ('{"refresh_token": "hunter2"}', CREDENTIAL_FORMAT),
    ('{"access_token": ["hunter2"]}', CREDENTIAL_FORMAT),
    ('{"access_token": "hunter2", "refresh_token": null}', CREDENTIAL_FORMAT),
    ('{"access_token": "hunter2", "extra": []}', CREDENTIAL_FORMAT),
    ('{"access_token": "hunter2", "extra": {"a": 1}}', CREDENTIAL_FORMAT),
]


def shown(error: BaseException) -> str:
    """All that a report of the error could hold: texts, causes, and the locals of the product's frames."""
    text = "".join(traceback.format_exception(error))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == payload.__file__:
            text += repr(frame.f_locals)
    assert error.__context__ is None
    assert error.__cause__ is None
    return text


@pytest.mark.parametrize(("plaintext", "format"), MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_payload_is_refused_and_its_error_holds_nothing_of_it(plaintext: str, format: str) -> None:
    secret = SecretBytes(plaintext.encode())
    stored = adopted(format)
    if format == CREDENTIAL_FORMAT:
        stored = row(TokenSet(access_token=SecretStr("")))
    with pytest.raises(CannotOpen, match=f"connection c1 opens, but is not in its payload format '{format}'") as caught:
        decode_credential(secret, stored, CONNECTION)
    text = shown(caught.value)
    assert "payload_format" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("raw", [b"\xffhunter2", '{"access_token": "hunter2"}'.encode("utf-16")])
@pytest.mark.parametrize("format", [GO_FORMAT, "legacy_token"])
def test_payload_that_is_not_utf_8_is_refused(raw: bytes, format: str) -> None:
    with pytest.raises(CannotOpen) as caught:
        decode_credential(SecretBytes(raw), adopted(format), CONNECTION)
    assert "hunter2" not in shown(caught.value)


@pytest.mark.parametrize("decode", [decode_memory, decode_request])
@pytest.mark.parametrize("plaintext", [b"", b"hunter2", b'["hunter2"]', b'{"method": {"hunter2": 1}', b"\xffhunter2"])
def test_malformed_memory_or_delivery_is_refused_and_its_error_holds_nothing_of_it(
    decode: Callable[[SecretBytes], object], plaintext: bytes
) -> None:
    with pytest.raises(CannotOpen) as caught:
        decode(SecretBytes(plaintext))
    assert "hunter2" not in shown(caught.value)


# --- conversion -----------------------------------------------------------------------------------------------------


def sealed_row(backend: str, **more: Any) -> SealedRow:
    fields: dict[str, Any] = {
        "kind": "credential",
        "id": "k1",
        "provider_id": "acme",
        "scope": Scope("user", "u1"),
        "record_id": "c1",
        "sealed": Sealed(b"", KeyRef(backend, "k", 1)),
        "payload_format": CREDENTIAL_FORMAT,
    }
    return SealedRow(**{**fields, **more})


@pytest.mark.parametrize(
    ("stored", "current"),
    [
        (sealed_row("appkey"), True),
        (sealed_row("appkey", payload_format="Token_Set_JSON", payload_version=0), True),
        (sealed_row("appkey", payload_format=GO_FORMAT), False),
        (sealed_row("appkey", payload_version=2), False),
        (sealed_row("appkey", payload_format=""), False),
        (sealed_row(""), False),
        (sealed_row("", payload_format=GO_FORMAT), False),
        (sealed_row("appkey", kind="inbox", payload_format=""), True),
        (sealed_row("", kind="inbox", payload_format=""), False),
    ],
)
def test_current_is_what_has_a_backend_and_todays_payload_format(stored: SealedRow, current: bool) -> None:
    assert is_current(stored) is current


def test_credential_of_the_go_system_is_converted_with_all_its_secrets() -> None:
    plaintext = SecretBytes(SAMPLES["a credential with every field"]["plaintext"].encode())
    converted = SecretBytes(to_current(plaintext, sealed_row("", payload_format=GO_FORMAT)))
    before = decode_credential(plaintext, adopted(GO_FORMAT), CONNECTION).tokens
    after = decode_credential(converted, row(before), CONNECTION).tokens
    assert after == before


def test_conversion_refuses_what_reading_refuses() -> None:
    for text, stored in [
        ('{"access_token": "hunter2", "connection_id": "c2"}', sealed_row("", payload_format=GO_FORMAT)),
        ("hunter2", sealed_row("", payload_format=GO_FORMAT)),
        ("hunter2", sealed_row("", payload_format="custom")),
        ("hunter2", sealed_row("appkey", payload_format="legacy_token")),
    ]:
        with pytest.raises(CannotOpen, match="c1") as caught:
            to_current(SecretBytes(text.encode()), stored)
        assert "hunter2" not in shown(caught.value)


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
