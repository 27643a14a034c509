"""The client credentials flow, request by request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from attrs import evolve

from go_services_core.auth.client_credentials import ClientCredentialsFlow
from go_services_core.auth.fields import concealed
from go_services_core.auth_specs import ClientCredentials
from go_services_core.errors import BadInput, InvalidGrant, TokenEndpointError
from go_services_core.http import HttpResponse
from go_services_core.model import TokenSet
from go_services_core.secret import SecretStr

from .driving import NOW, client_context, form_of, held, json_answer, run

FLOW = ClientCredentialsFlow()
RECORD = ClientCredentials(
    token_url="https://id.example/token", revocation_url="https://id.example/revoke", default_grants=("read", "write")
)
ANSWER = json_answer({"access_token": "at-1", "token_type": "Bearer", "expires_in": 60})


def test_client_asks_for_itself_with_the_parameters_of_the_rfc_and_no_other() -> None:  # RFC 6749 §4.4.2
    tokens, (request,) = run(FLOW.complete(client_context(RECORD), {}), ANSWER)
    assert (request.method, request.url) == ("POST", "https://id.example/token")
    assert form_of(request) == {"grant_type": "client_credentials", "scope": "read write"}
    assert (request.header("Authorization") or "").startswith("Basic ")
    assert tokens.access_token == SecretStr("at-1")
    assert tokens.expires_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize("client_auth", ["post", "none"])
def test_client_authenticates_as_the_record_says(client_auth: Any) -> None:
    record = evolve(RECORD, client_auth=client_auth, default_grants=())
    _, (request,) = run(FLOW.complete(client_context(record), {}), ANSWER)
    secret = {"client_secret": "client-secret-0123"} if client_auth == "post" else {}
    assert form_of(request) == {"grant_type": "client_credentials", "client_id": "client-1", **secret}


def test_places_of_use_are_named_each() -> None:  # RFC 8707 §2
    record = evolve(RECORD, resource=("https://a.example", "https://b.example"), audience="api://default")
    _, (request,) = run(FLOW.complete(client_context(record), {}), ANSWER)
    assert isinstance(request.body, bytes)
    pairs = parse_qsl(request.body.decode())
    assert [value for name, value in pairs if name == "resource"] == ["https://a.example", "https://b.example"]
    assert [value for name, value in pairs if name == "audience"] == ["api://default"]


def test_extra_parameters_replace_none_of_the_flows_own() -> None:
    record = evolve(RECORD, extra_token={"tenant": "t1", "grant_type": "password", "client_id": "other"})
    record = evolve(record, client_auth="post", scope_separator=",")
    _, (request,) = run(FLOW.complete(client_context(record), {}), ANSWER)
    assert form_of(request) == {
        "tenant": "t1",
        "grant_type": "client_credentials",
        "scope": "read,write",
        "client_id": "client-1",
        "client_secret": "client-secret-0123",
    }


def test_parameters_have_the_names_that_the_provider_has_for_them() -> None:
    record = evolve(RECORD, client_auth="post", parameters={"client_id": "client_key", "scope": "permissions"})
    _, (request,) = run(FLOW.complete(client_context(record), {}), ANSWER)
    assert form_of(request) == {
        "grant_type": "client_credentials",
        "permissions": "read write",
        "client_key": "client-1",
        "client_secret": "client-secret-0123",
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"state": "my_state"},
        {"grant_type": "type"},
        {"client_id": "state"},
        {"client_id": "code_verifier"},
        {"client_id": ""},
        {"client_id": "x", "scope": "x"},
    ],
)
def test_record_that_renames_what_protects_the_flow_is_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="parameters"):
        ClientCredentials(token_url="https://id.example/token", parameters=parameters)


@pytest.mark.parametrize(
    ("said", "granted"), [({}, ("read", "write")), ({"scope": "read"}, ("read",)), ({"scope": ""}, ())]
)
def test_absent_scope_is_the_one_asked_for(said: dict[str, str], granted: tuple[str, ...]) -> None:  # RFC 6749 §5.1
    tokens, _ = run(FLOW.complete(client_context(RECORD), {}), json_answer({"access_token": "at-1", **said}))
    assert tokens.granted == granted


def test_renewal_asks_again_and_sends_no_token() -> None:  # P16
    old = TokenSet(access_token=SecretStr("at-0123456789"))
    tokens, (request,) = run(FLOW.refresh(client_context(RECORD), held(RECORD, old)), ANSWER)
    assert form_of(request) == {"grant_type": "client_credentials", "scope": "read write"}
    assert tokens.access_token == SecretStr("at-1")


def test_refresh_token_is_not_kept() -> None:  # RFC 6749 §4.4.3
    tokens, _ = run(
        FLOW.complete(client_context(RECORD), {}),
        json_answer({"access_token": "at-1", "refresh_token": "rt-1", "refresh_expires_in": 60}),
    )
    assert (tokens.refresh_token, tokens.refresh_expires_at) == (None, None)


def test_refusal_is_typed_and_names_no_secret() -> None:  # P42
    said = {"error": "invalid_client", "error_description": "client-secret-0123 is wrong"}
    with pytest.raises(TokenEndpointError) as caught:
        run(FLOW.complete(client_context(RECORD), {}), json_answer(said, 401))
    assert not isinstance(caught.value, InvalidGrant)
    assert caught.value.error == "invalid_client"
    assert "client-secret" not in str(caught.value)


def test_nothing_is_typed_and_nobody_consents() -> None:
    with pytest.raises(BadInput) as caught:
        run(FLOW.complete(client_context(RECORD), concealed({"token": "x"})))
    assert caught.value.field == "token"
    with pytest.raises(BadInput, match="no consent page"):
        run(FLOW.begin(client_context(RECORD)))


def test_token_is_given_back() -> None:  # RFC 7009 §2.1
    credential = held(RECORD, TokenSet(access_token=SecretStr("at-1")))
    told, (request,) = run(FLOW.revoke(client_context(RECORD), credential), HttpResponse(200))
    assert told is True
    assert form_of(request) == {"token": "at-1", "token_type_hint": "access_token"}
