"""The device authorization flow, request by request."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_core.auth.device import DeviceCodeFlow
from go_services_core.auth_specs import DeviceCode
from go_services_core.errors import (
    AuthorizationPending,
    CallbackRefused,
    InvalidGrant,
    ReauthRequired,
    ServicesError,
    StateExpired,
    TokenEndpointError,
    TokenResponseInvalid,
)
from go_services_core.model import TokenSet
from go_services_core.protocols import AuthStart
from go_services_core.secret import SecretStr

from .driving import NOW, client_context, form_of, held, json_answer, run

FLOW = DeviceCodeFlow()
RECORD = DeviceCode(
    device_authorization_url="https://id.example/device", token_url="https://id.example/token", client_auth="none"
)
SAID = {
    "device_code": "dc-0123456789",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://id.example/activate",
    "verification_uri_complete": "https://id.example/activate?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}
MEMORY = {
    "device_code": SecretStr("dc-0123456789"),
    "expires_at": SecretStr((NOW + timedelta(seconds=60)).isoformat()),
    "interval": SecretStr("7"),
}


def begun(said: dict[str, Any], record: DeviceCode = RECORD) -> AuthStart:
    start, _ = run(FLOW.begin(client_context(record)), json_answer(said))
    return start


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SAID.items() if key != name}


def test_device_asks_with_the_parameters_of_the_rfc_and_no_other() -> None:  # RFC 8628 §3.1
    start, (request,) = run(FLOW.begin(client_context(RECORD, requested=("a", "b"))), json_answer(SAID))
    assert (request.method, request.url) == ("POST", "https://id.example/device")
    assert form_of(request) == {"scope": "a b", "client_id": "client-1"}
    assert start.url == "https://id.example/activate?user_code=WDJB-MJHT"
    assert (start.user_code, start.verification_uri) == ("WDJB-MJHT", "https://id.example/activate")
    assert {name: value.reveal() for name, value in start.memory.items()} == {
        "device_code": "dc-0123456789",
        "expires_at": (NOW + timedelta(seconds=1800)).isoformat(),
        "interval": "7",
    }
    assert "dc-0123456789" not in repr(start)


def test_confidential_client_authenticates_itself() -> None:  # RFC 8628 §3.1
    _, (request,) = run(FLOW.begin(client_context(evolve(RECORD, client_auth="basic"))), json_answer(SAID))
    assert (request.header("Authorization") or "").startswith("Basic ")


def test_page_without_the_code_in_it_is_opened_where_there_is_no_other() -> None:
    assert begun(without("verification_uri_complete")).url == "https://id.example/activate"


def test_name_of_before_the_rfc_is_read() -> None:
    said = {**without("verification_uri"), "verification_url": "https://www.google.com/device"}
    assert begun(said).verification_uri == "https://www.google.com/device"


@pytest.mark.parametrize(
    ("interval", "expected"), [(None, "5"), ("10", "10"), (0, "5"), ("soon", "5"), (10**9, "300"), (True, "5")]
)
def test_interval_has_a_default_and_an_end(interval: Any, expected: str) -> None:  # RFC 8628 §3.2
    assert begun({**SAID, "interval": interval}).memory["interval"] == SecretStr(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("device_code", "user_code", "verification_uri") for value in (None, "", 7, [])],
        *[("expires_in", value) for value in (None, 0, -1, "soon", [], float("nan"))],
        *[
            (name, value)
            for name in ("verification_uri", "verification_uri_complete")
            for value in (
                "javascript:alert(1)",
                "http://id.example/activate",
                "https://",
                "https://id.example/\x1b[31m",
                "https://[broken",
                "data:text/html,x",
            )
        ],
        ("user_code", "A\r\nB"),
    ],
)
def test_answer_that_cannot_be_shown_or_used_is_typed(name: str, value: Any) -> None:
    with pytest.raises(TokenResponseInvalid) as caught:
        begun({**SAID, name: value})
    assert "dc-0123456789" not in str(caught.value)


def test_refused_beginning_is_typed() -> None:
    with pytest.raises(TokenEndpointError) as caught:
        run(FLOW.begin(client_context(RECORD)), json_answer({"error": "unauthorized_client"}, 400))
    assert caught.value.error == "unauthorized_client"


def test_one_question_asks_with_the_device_code() -> None:  # RFC 8628 §3.4
    answer = json_answer({"access_token": "at-1", "refresh_token": "rt-1", "scope": "a"})
    tokens, (request,) = run(FLOW.complete(client_context(RECORD, memory=MEMORY), {}), answer)
    assert request.url == "https://id.example/token"
    assert form_of(request) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": "dc-0123456789",
        "client_id": "client-1",
    }
    assert (tokens.refresh_token, tokens.granted) == (SecretStr("rt-1"), ("a",))


def asked(error: str, status: int = 400, memory: dict[str, SecretStr] = MEMORY) -> ServicesError:
    said = {"error": error, "error_description": "about dc-0123456789"}
    with pytest.raises(ServicesError) as caught:
        run(FLOW.complete(client_context(RECORD, memory=memory), {}), json_answer(said, status))
    assert "dc-0123456789" not in f"{caught.value} {caught.value.as_dict()}"  # P42
    return caught.value


@pytest.mark.parametrize("status", [200, 400])
def test_pending_consent_is_asked_again_after_the_interval(status: int) -> None:  # RFC 8628 §3.5
    pending = asked("authorization_pending", status)
    assert isinstance(pending, AuthorizationPending)
    assert (pending.retry_after, pending.retryable) == (7.0, True)


def test_slow_down_adds_five_seconds_for_good() -> None:  # RFC 8628 §3.5
    slower = asked("slow_down")
    assert isinstance(slower, AuthorizationPending)
    assert slower.retry_after == 12.0
    later = asked("authorization_pending", memory={**MEMORY, "interval": SecretStr(f"{slower.retry_after:g}")})
    assert isinstance(later, AuthorizationPending)
    assert later.retry_after == 12.0


def test_refused_consent_ends_the_attempt() -> None:
    refused = asked("access_denied")
    assert isinstance(refused, CallbackRefused)
    assert refused.metadata["error"] == "access_denied"
    assert not refused.retryable


def test_expired_code_ends_the_attempt() -> None:
    assert isinstance(asked("expired_token"), StateExpired)


def test_code_that_is_over_its_time_is_not_sent() -> None:
    late = client_context(RECORD, memory=MEMORY, now=NOW + timedelta(seconds=60))
    with pytest.raises(StateExpired):
        run(FLOW.complete(late, {}))


@pytest.mark.parametrize(("error", "kind"), [("invalid_grant", InvalidGrant), ("invalid_client", TokenEndpointError)])
def test_other_refusals_stay_what_they_are(error: str, kind: type[ServicesError]) -> None:
    assert type(asked(error)) is kind


def test_renewal_needs_a_refresh_token_and_sends_only_that() -> None:  # P16
    tokens = TokenSet(access_token=SecretStr("at-0123456789"), refresh_token=SecretStr("rt-0123456789"))
    _, (request,) = run(
        FLOW.refresh(client_context(RECORD), held(RECORD, tokens)), json_answer({"access_token": "at-2"})
    )
    assert form_of(request)["refresh_token"] == "rt-0123456789"
    with pytest.raises(ReauthRequired):
        run(FLOW.refresh(client_context(RECORD), held(RECORD, evolve(tokens, refresh_token=None))))


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)


@settings(deadline=None)
@given(said=st.dictionaries(st.sampled_from([*SAID, "error", "verification_url"]), JSON))
def test_no_answer_fails_untyped(said: dict[str, Any]) -> None:
    with suppress(ServicesError):
        start = begun({**SAID, **said})
        assert start.url.startswith("https://")
        run(FLOW.complete(client_context(RECORD, memory=start.memory), {}), json_answer({"access_token": "at-1"}))
