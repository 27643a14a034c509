"""Revocation, as every OAuth flow shares it; the code flow's tests drive the good cases."""

from __future__ import annotations

import pytest

from go_services_core.auth.revocation import revoke_tokens
from go_services_core.auth_specs import ClientCredentials, DeviceCode, OAuth2Client, OAuth2Code, TokenExchange
from go_services_core.errors import TokenEndpointError
from go_services_core.model import TokenSet
from go_services_core.secret import SecretStr

from .driving import client_context, form_of, held, json_answer, run

URLS = {"token_url": "https://id.example/token", "revocation_url": "https://id.example/revoke"}
RECORDS = (
    OAuth2Code(authorize_url="https://id.example/authorize", **URLS),
    DeviceCode(device_authorization_url="https://id.example/device", **URLS),
    ClientCredentials(**URLS),
    TokenExchange(**URLS),
)
TOKENS = TokenSet(access_token=SecretStr("at-0123456789"), refresh_token=SecretStr("rt-0123456789"))


@pytest.mark.parametrize("record", RECORDS, ids=[record.kind for record in RECORDS])
def test_every_oauth_record_revokes_both_tokens(record: OAuth2Client) -> None:  # RFC 7009 §2.1
    told, requests = run(
        revoke_tokens(client_context(record), held(record, TOKENS)),
        json_answer({}),
        json_answer({}),
    )
    assert told
    assert [form_of(request)["token"] for request in requests] == ["rt-0123456789", "at-0123456789"]


@pytest.mark.parametrize("status", [400, 401, 503])
def test_refusal_carries_the_endpoints_code_and_no_token(status: int) -> None:  # RFC 7009 §2.2.1, P42
    said = {"error": "invalid_request", "error_description": "rt-0123456789"}
    with pytest.raises(TokenEndpointError) as caught:
        run(revoke_tokens(client_context(RECORDS[0]), held(RECORDS[0], TOKENS)), json_answer(said, status))
    assert caught.value.error == "invalid_request"
    assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize("code", ["invalid_token", "invalid_grant"])
def test_token_that_a_server_calls_invalid_is_revoked(code: str) -> None:  # RFC 7009 §2.2
    answers = (json_answer({"error": code}, 400), json_answer({"error": code}, 400))
    told, requests = run(revoke_tokens(client_context(RECORDS[0]), held(RECORDS[0], TOKENS)), *answers)
    assert (told, len(requests)) == (True, 2)


@pytest.mark.parametrize(("first", "second", "told"), [(200, 400, True), (400, 200, True), (400, 400, False)])
def test_type_of_token_that_a_server_does_not_revoke_is_left(first: int, second: int, told: bool) -> None:
    """RFC 7009 §2.2.1: the other one is revoked all the same."""
    answers = (json_answer({"error": "unsupported_token_type"}, status) for status in (first, second))
    assert run(revoke_tokens(client_context(RECORDS[0]), held(RECORDS[0], TOKENS)), *answers)[0] is told


@pytest.mark.parametrize("status", [401, 500, 503])
def test_code_of_an_invalid_token_in_another_answer_proves_nothing(status: int) -> None:
    with pytest.raises(TokenEndpointError):
        run(
            revoke_tokens(client_context(RECORDS[0]), held(RECORDS[0], TOKENS)),
            json_answer({"error": "invalid_token"}, status),
        )
