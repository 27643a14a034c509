"""The token exchange flow, request by request."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from attrs import evolve

from go_services_core.auth.fields import concealed
from go_services_core.auth.token_exchange import TokenExchangeFlow
from go_services_core.auth_specs import TokenExchange
from go_services_core.errors import (
    BadInput,
    InvalidGrant,
    ProviderUnavailable,
    ReauthRequired,
    TokenEndpointError,
    TokenResponseInvalid,
)
from go_services_core.http import HttpResponse
from go_services_core.model import TokenSet
from go_services_core.runtime.payload import carry_over
from go_services_core.secret import SecretStr

from .driving import client_context, form_of, held, json_answer, run

FLOW = TokenExchangeFlow()
RECORD = TokenExchange(token_url="https://id.example/token", default_grants=("read",))
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS, JWT = (f"urn:ietf:params:oauth:token-type:{name}" for name in ("access_token", "jwt"))
TYPED = {"subject_token": "st-0123456789"}
SAID = {"access_token": "at-1", "issued_token_type": ACCESS, "token_type": "Bearer"}


def exchanged(record: TokenExchange = RECORD, typed: dict[str, str] = TYPED) -> TokenSet:
    tokens, _ = run(FLOW.complete(client_context(record), concealed(typed)), json_answer(SAID))
    return tokens


def test_exchange_has_the_parameters_of_the_rfc_and_no_other() -> None:  # RFC 8693 §2.1
    tokens, (request,) = run(FLOW.complete(client_context(RECORD), concealed(TYPED)), json_answer(SAID))
    assert (request.method, request.url) == ("POST", "https://id.example/token")
    assert form_of(request) == {
        "grant_type": GRANT_TYPE,
        "subject_token": "st-0123456789",
        "subject_token_type": ACCESS,
        "scope": "read",
    }
    assert tokens.access_token == SecretStr("at-1")
    assert tokens.granted == ("read",)
    assert "st-0123456789" not in repr(tokens)


def test_what_the_record_and_the_caller_say_is_asked_for() -> None:
    record = evolve(RECORD, requested_token_type=JWT, audience=("a", "b"), resource="https://api.example")
    typed = {**TYPED, "subject_token_type": JWT}
    answer = json_answer({**SAID, "issued_token_type": JWT})
    _, (request,) = run(FLOW.complete(client_context(record), concealed(typed)), answer)
    assert isinstance(request.body, bytes)
    pairs = parse_qsl(request.body.decode())
    assert {("subject_token_type", JWT), ("requested_token_type", JWT), ("resource", "https://api.example")} <= set(
        pairs
    )
    assert [value for name, value in pairs if name == "audience"] == ["a", "b"]


def test_token_of_another_type_than_asked_for_is_refused() -> None:  # RFC 8693 §2.2.1
    record = evolve(RECORD, requested_token_type=JWT)
    with pytest.raises(TokenResponseInvalid) as caught:
        exchanged(record)
    assert caught.value.field == "issued_token_type"


@pytest.mark.parametrize(
    "typed",
    [
        {},
        {"subject_token": ""},
        {"subject_token": " st"},
        {"subject_token": "st", "actor": "x"},
        {"subject_token": "st", "subject_token_type": "jwt "},
    ],
)
def test_fields_that_cannot_be_exchanged_make_no_request(typed: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        run(FLOW.complete(client_context(RECORD), concealed(typed)))


def test_subject_token_is_exchanged_again() -> None:
    old = exchanged(typed={**TYPED, "subject_token_type": JWT})
    tokens, (request,) = run(FLOW.refresh(client_context(RECORD), held(RECORD, old)), json_answer(SAID))
    assert form_of(request)["subject_token"] == "st-0123456789"
    assert form_of(request)["subject_token_type"] == JWT
    assert "at-1" not in f"{request.body!r}"  # P16
    assert carry_over(tokens, old).extra == old.extra


def test_refresh_token_is_preferred_and_the_subject_token_kept() -> None:
    old = evolve(exchanged(), refresh_token=SecretStr("rt-1"))
    tokens, (request,) = run(FLOW.refresh(client_context(RECORD), held(RECORD, old)), json_answer(SAID))
    assert form_of(request) == {"grant_type": "refresh_token", "refresh_token": "rt-1"}
    assert carry_over(tokens, old).extra == old.extra


def test_record_that_does_not_renew_keeps_no_subject_token() -> None:
    tokens = exchanged(evolve(RECORD, refreshable=False))
    assert tokens.extra == {}
    with pytest.raises(ReauthRequired):
        run(FLOW.refresh(client_context(RECORD), held(RECORD, tokens)))


@pytest.mark.parametrize("error", ["invalid_request", "invalid_grant"])
def test_subject_token_that_is_over_ends_the_grant(error: str) -> None:
    """RFC 8693 §2.2.2 has ``invalid_request`` for it."""
    said = {"error": error, "error_description": "st-0123456789 has expired"}
    with pytest.raises(InvalidGrant) as caught:
        run(FLOW.refresh(client_context(RECORD), held(RECORD, exchanged())), json_answer(said, 400))
    assert "st-0123456789" not in str(caught.value)  # P42


def test_first_exchange_that_is_refused_is_no_ended_grant() -> None:
    with pytest.raises(TokenEndpointError) as caught:
        run(FLOW.complete(client_context(RECORD), concealed(TYPED)), json_answer({"error": "invalid_request"}, 400))
    assert type(caught.value) is TokenEndpointError


def test_trouble_at_the_server_ends_no_grant() -> None:  # P17
    credential = held(RECORD, exchanged())
    for error in ("invalid_client", "invalid_target"):
        with pytest.raises(TokenEndpointError) as caught:
            run(FLOW.refresh(client_context(RECORD), credential), json_answer({"error": error}, 400))
        assert not isinstance(caught.value, InvalidGrant)
    with pytest.raises(ProviderUnavailable):
        run(FLOW.refresh(client_context(RECORD), credential), HttpResponse(503))


def test_nobody_consents() -> None:
    with pytest.raises(BadInput, match="no consent page"):
        run(FLOW.begin(client_context(RECORD)))


def test_subject_token_is_not_revoked() -> None:
    record = evolve(RECORD, revocation_url="https://id.example/revoke")
    _, (request,) = run(FLOW.revoke(client_context(record), held(record, exchanged())), HttpResponse(200))
    assert form_of(request)["token"] == "at-1"
