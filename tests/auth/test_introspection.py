"""Introspection, request by request."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_core.auth.introspection import Introspection, introspect
from go_services_core.auth_specs import ClientCredentials
from go_services_core.errors import CapabilityUnsupported, ProviderUnavailable, ServicesError, TokenEndpointError
from go_services_core.http import HttpResponse
from go_services_core.secret import SecretStr

from .driving import NOW, client_context, form_of, json_answer, run

RECORD = ClientCredentials(token_url="https://id.example/token", introspection_url="https://id.example/introspect")
TOKEN = SecretStr("at-0123456789")


def asked(answer: HttpResponse) -> Introspection:
    said, _ = run(introspect(client_context(RECORD), TOKEN), answer)
    return said


def test_server_is_asked_as_the_rfc_says() -> None:  # RFC 7662 §2.1
    _, (request,) = run(introspect(client_context(RECORD), TOKEN, hint="refresh_token"), json_answer({"active": False}))
    assert (request.method, request.url) == ("POST", "https://id.example/introspect")
    assert form_of(request) == {"token": "at-0123456789", "token_type_hint": "refresh_token"}
    assert (request.header("Authorization") or "").startswith("Basic ")


def test_what_the_server_says_is_read() -> None:  # RFC 7662 §2.2
    said = asked(
        json_answer(
            {
                "active": True,
                "scope": "a b",
                "client_id": "client-1",
                "sub": "u-1",
                "iss": "https://id.example",
                "aud": ["x", 7, "y"],
                "token_type": "Bearer",
                "iat": int(NOW.timestamp()),
                "exp": NOW.timestamp() + 60.5,
                "own": 1,
            }
        )
    )
    assert (said.active, said.grants, said.audience) == (True, ("a", "b"), ("x", "y"))
    assert (said.client_id, said.subject, said.issuer) == ("client-1", "u-1", "https://id.example")
    assert (said.issued_at, said.expires_at) == (NOW, NOW + timedelta(seconds=60.5))
    assert said.claims["own"] == 1


def test_of_a_token_that_is_not_active_nothing_else_is_believed() -> None:  # RFC 7662 §2.2
    assert asked(json_answer({"active": False, "sub": "u-1", "scope": "a"})) == Introspection(active=False)


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({}),
        json_answer({"active": "true"}),
        json_answer({"active": 1}),
        json_answer([True]),
        HttpResponse(200, (), b"active=true"),
        HttpResponse(200, (("Content-Type", "text/html"),), b"<html>"),
        HttpResponse(302),
        json_answer({"active": True}, 401),
        json_answer({"error": "invalid_client", "error_description": "at-0123456789"}, 401),
    ],
)
def test_what_does_not_say_whether_it_is_active_is_typed(answer: HttpResponse) -> None:
    with pytest.raises(TokenEndpointError) as caught:
        asked(answer)
    assert "0123456789" not in str(caught.value)  # P42


def test_failing_server_is_told_from_an_inactive_token() -> None:  # P17
    with pytest.raises(ProviderUnavailable):
        asked(HttpResponse(503))


def test_without_an_endpoint_nothing_is_sent() -> None:
    with pytest.raises(CapabilityUnsupported):
        run(introspect(client_context(evolve(RECORD, introspection_url=None)), TOKEN))


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@settings(deadline=None)
@given(said=st.dictionaries(st.sampled_from(["active", "scope", "aud", "exp", "iat", "sub", "error"]), JSON))
def test_no_answer_fails_untyped(said: dict[str, Any]) -> None:
    with suppress(ServicesError):
        assert asked(json_answer(said)).active is said["active"]
