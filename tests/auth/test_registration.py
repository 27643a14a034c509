"""Dynamic registration, request by request."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_core.auth.registration import RegisteredClient, register
from go_services_core.errors import BadInput, ProviderUnavailable, RegistrationRefused, ServicesError
from go_services_core.http import HttpResponse
from go_services_core.secret import SecretStr

from .driving import NOW, json_answer, run

URL = "https://id.example/register"
ASKED = {"redirect_uris": ["https://app.example/callback"], "client_name": "Ä"}
SAID: dict[str, Any] = {
    "client_id": "s6BhdRkqt3",
    "client_secret": "cs-0123456789",
    "client_id_issued_at": 1767225600,
    "client_secret_expires_at": 1767225660,
    "registration_access_token": "rat-0123456789",
    "registration_client_uri": "https://id.example/register/s6BhdRkqt3",
    "token_endpoint_auth_method": "client_secret_basic",
}


def registered(answer: HttpResponse, **options: Any) -> RegisteredClient:
    client, _ = run(register(URL, ASKED, now=NOW, **options), answer)
    return client


def test_client_is_asked_for_and_read() -> None:  # RFC 7591 §3.1, §3.2.1
    client, (request,) = run(
        register(URL, ASKED, now=NOW, initial_token=SecretStr("it-0123456789")), json_answer(SAID, 201)
    )
    assert (request.method, request.url) == ("POST", URL)
    assert request.header("Authorization") == "Bearer it-0123456789"
    assert isinstance(request.body, bytes)
    assert json.loads(request.body) == ASKED
    assert client == RegisteredClient(
        client_id="s6BhdRkqt3",
        client_secret=SecretStr("cs-0123456789"),
        secret_expires_at=datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
        management_token=SecretStr("rat-0123456789"),
        management_url="https://id.example/register/s6BhdRkqt3",
        document={
            name: value for name, value in SAID.items() if name not in ("client_secret", "registration_access_token")
        },
    )


def test_secrets_are_not_shown() -> None:  # P46
    assert "0123456789" not in f"{registered(json_answer(SAID, 201))!r}"


def test_public_client_of_an_open_server_has_no_secret() -> None:
    client, (request,) = run(register(URL, ASKED, now=NOW), json_answer({"client_id": "c-1"}, 201))
    assert request.header("Authorization") is None
    assert client == RegisteredClient(client_id="c-1", document={"client_id": "c-1"})


def test_zero_is_never() -> None:  # RFC 7591 §3.2.1
    assert registered(json_answer({**SAID, "client_secret_expires_at": 0}, 201)).secret_expires_at is None


@pytest.mark.parametrize(
    "answer",
    [
        json_answer({"error": "invalid_redirect_uri", "error_description": "it-0123456789"}, 400),
        json_answer({"error": "invalid_token"}, 401),
        json_answer({"client_id": "c-1", "error": "invalid_client_metadata"}, 200),
        HttpResponse(404),
        HttpResponse(302, (("Location", "https://evil.example"),)),
        HttpResponse(201, (), b"<html>"),
        json_answer({}, 201),
        json_answer({"client_id": ""}, 201),
        json_answer({"client_id": 7}, 201),
    ],
)
def test_refused_registration_is_typed(answer: HttpResponse) -> None:  # RFC 7591 §3.2.2
    with pytest.raises(RegistrationRefused) as caught:
        registered(answer, initial_token=SecretStr("it-0123456789"))
    assert "0123456789" not in str(caught.value)  # P42


def test_reason_is_kept() -> None:
    with pytest.raises(RegistrationRefused) as caught:
        registered(json_answer({"error": "invalid_redirect_uri"}, 400))
    assert caught.value.error == "invalid_redirect_uri"


def test_failing_server_did_not_refuse() -> None:
    with pytest.raises(ProviderUnavailable):
        registered(HttpResponse(503))


@pytest.mark.parametrize(
    "url", ["http://id.example/x", "https://evil.example/x", "https://id.example@evil.example", "/register/x", 7, ""]
)
def test_management_elsewhere_is_refused(url: Any) -> None:
    """The management token would go there."""
    with pytest.raises(RegistrationRefused) as caught:
        registered(json_answer({**SAID, "registration_client_uri": url}, 201))
    assert caught.value.field == "registration_client_uri"
    assert "0123456789" not in str(caught.value)


def test_management_on_a_host_that_the_caller_allows_is_taken() -> None:
    said = {**SAID, "registration_client_uri": "https://manage.example/x"}
    assert registered(json_answer(said, 201), hosts=("manage.example",)).management_url == "https://manage.example/x"


def test_token_that_would_break_its_header_is_not_sent() -> None:
    with pytest.raises(BadInput):
        registered(json_answer(SAID), initial_token=SecretStr("a\r\nb"))


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)


@settings(deadline=None)
@given(said=st.dictionaries(st.sampled_from([*SAID, "error"]), JSON))
def test_no_answer_fails_untyped(said: dict[str, Any]) -> None:
    with suppress(ServicesError):
        assert registered(json_answer({**SAID, **said}, 201)).client_id
