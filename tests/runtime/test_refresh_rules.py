"""The decisions about a refresh by themselves: when, whether, and how long to wait."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from attrs import frozen

from go_services_core import ApiKey
from go_services_core.auth.oauth2_code import OAuth2CodeFlow
from go_services_core.auth.typed import ApiKeyFlow
from go_services_core.auth_specs import OAuth2Code
from go_services_core.clock import SystemClock, uuid7
from go_services_core.errors import (
    BadInput,
    ConnectFailed,
    ProviderUnavailable,
    RateLimited,
    RefreshBackingOff,
    RefreshUnknown,
    RequestTimeout,
    TokenEndpointError,
    TokenResponseInvalid,
)
from go_services_core.model import KeyRef, Sealed, SealedCredential, TokenSet
from go_services_core.outlook import CredentialFacts
from go_services_core.refreshes import RefreshHistory
from go_services_core.runtime.refresh_rules import (
    ending_at,
    longest_margin,
    outcome,
    pause,
    permit,
    renew_at,
    renewable,
    resting_until,
    shortest_rest,
)
from go_services_core.secret import SecretStr

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(**fields):
    return OAuth2Code(authorize_url="https://a.example/a", token_url="https://a.example/t", **fields)


def row(id="c1"):
    return SealedCredential(
        id=id,
        connection_id="c",
        version=1,
        sealed=Sealed(b"x", KeyRef("kit", "k", 1)),
        payload_format="kit",
        payload_version=1,
        token_type="bearer",
        created_at=NOW,
    )


def before_end(life, auth=None, id="c1"):
    end = NOW + timedelta(seconds=life)
    return (end - renew_at(auth or record(), row(id), end)).total_seconds()


@pytest.mark.parametrize(("life", "margin"), [(86400, 300), (3600, 300), (3000, 300), (600, 60), (60, 6)])
def test_margin_is_a_tenth_of_the_life_at_most_five_minutes_and_up_to_a_fifth_more(life, margin):
    seen = {before_end(life, id=f"credential-{number}") for number in range(200)}
    assert margin <= min(seen) < margin * 1.02
    assert margin * 1.18 < max(seen) <= margin * 1.2
    assert before_end(life, id="credential-7") == before_end(life, id="credential-7")


@pytest.mark.parametrize("fields", [{}, {"refresh_margin": 300.0}])
def test_ten_thousand_tokens_that_end_together_are_renewed_one_after_another(fields):
    """Spread over a minute: in no second more than a thirtieth, and in every process the same ones."""
    auth, ids = record(**fields), [uuid7(SystemClock()) for _ in range(10_000)]
    end = NOW + timedelta(hours=1)
    seconds = Counter(int((end - renew_at(auth, row(id), end)).total_seconds()) for id in ids)
    assert len(seconds) >= 60
    assert max(seconds.values()) < 10_000 / 30
    assert [renew_at(auth, row(id), end) for id in ids] == [renew_at(auth, row(id), end) for id in ids]


def facts(id="c1", **fields):
    made = {"id": id, "version": 1, "expires_at": None, "refresh_expires_at": None, "refreshable": True}
    return CredentialFacts(**{**made, "created_at": NOW, **fields})


def test_unused_refresh_token_is_used_after_four_fifths_of_its_rest_and_a_little_earlier():
    auth = record(refresh_inactivity=1000.0)
    waits = {(resting_until(auth, facts(f"c{number}")) - NOW).total_seconds() for number in range(200)}
    assert 720 <= min(waits) < 725
    assert 795 < max(waits) <= 800
    assert shortest_rest(auth) == timedelta(seconds=720)
    assert resting_until(record(), facts()) is None
    assert shortest_rest(record()) is None
    assert resting_until(auth, facts(refreshable=False)) is None


@pytest.mark.parametrize("fields", [{}, {"refresh_margin": 900.0}, {"refresh_margin": 0.0}])
def test_nothing_is_due_before_the_longest_margin(fields):
    """What the store is asked for covers whatever can be due."""
    auth = record(**fields)
    for life in (10, 600, 3600, 86400 * 365):
        end = NOW + timedelta(seconds=life)
        for number in range(50):
            at = ending_at(auth, facts(f"c{number}", expires_at=end))
            assert end - at <= longest_margin(auth)
            assert at == renew_at(auth, row(f"c{number}"), end)
    assert ending_at(auth, facts()) is None
    assert ending_at(auth, facts(expires_at=NOW, refreshable=False)) is None


def test_record_names_its_own_margin():
    assert 900 <= before_end(3600, record(refresh_margin=900.0)) <= 1080
    assert before_end(3600, record(refresh_margin=0.0)) == 0


@pytest.mark.parametrize("life", [-3600, 0, 1, 5])
def test_token_that_all_but_ended_when_it_came_is_not_renewed_at_once(life):
    """P20."""
    end = NOW + timedelta(seconds=life)
    assert renew_at(record(refresh_margin=60.0), row(), end) == NOW + timedelta(seconds=5)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectFailed(), "backing_off"),
        (RequestTimeout(sent=False), "backing_off"),
        (RequestTimeout(), "unknown"),
        (TimeoutError(), "unknown"),
        (RuntimeError("a plugin's mistake"), "unknown"),
        (TokenResponseInvalid(), "unknown"),
        (TokenEndpointError(error="invalid_client"), "backing_off"),
        (RateLimited(upstream_status=429), "backing_off"),
        (BadInput("before the request"), "backing_off"),
        *((ProviderUnavailable(upstream_status=status), "backing_off") for status in (500, 501, 503)),
        *((ProviderUnavailable(upstream_status=status), "unknown") for status in (502, 504, 520, 524)),
    ],
)
def test_only_what_certainly_spent_nothing_is_tried_again(error, expected):
    """P17; protocols, Refresh 3."""
    assert outcome(error, record()) == expected
    assert outcome(error, record(rotation="single-use-grace")) == expected
    assert outcome(error, record(rotation="none")) == "backing_off"


def test_pauses_double_up_to_five_minutes_and_half_of_each_is_chance():
    error = ConnectFailed()
    for random, share in ((b"\0\0\0\0", 0.5), (b"\xff\xff\xff\xff", 1.0)):
        pauses = [pause(failed, error, random) for failed in (1, 2, 3, 4, 8, 9, 1000, 10**6)]
        expected = [2, 4, 8, 16, 256, 300, 300, 300]
        assert pauses == pytest.approx([share * seconds for seconds in expected])


def test_pause_that_the_provider_asks_for_is_obeyed_within_the_limit():
    assert pause(1, RateLimited(upstream_status=429, retry_after=30.0), b"\0") == 30
    assert pause(1, RateLimited(upstream_status=429, retry_after=86400.0), b"\0") == 300
    assert pause(9, RateLimited(upstream_status=429, retry_after=1.0), b"\xff") > 150


def permitted(history, auth=None, *, ended):
    try:
        permit(history, auth or record(), connection_id="c", ended=ended)
    except (RefreshUnknown, RefreshBackingOff) as refused:
        return type(refused)
    return None


def test_one_recovery_is_permitted_when_the_access_token_has_ended_or_within_the_grace():
    """P11; protocols, Refresh 4."""
    once = RefreshHistory(unknown=1, unknown_age=20.0)
    graceful = record(rotation="single-use-grace", rotation_grace=30.0)
    assert permitted(once, ended=False) is RefreshUnknown
    assert permitted(once, ended=True) is None
    assert permitted(once, graceful, ended=False) is None
    assert permitted(RefreshHistory(unknown=1, unknown_age=31.0), graceful, ended=False) is RefreshUnknown
    assert permitted(once, record(rotation="single-use-grace"), ended=False) is RefreshUnknown
    assert permitted(once, record(rotation_grace=30.0), ended=False) is RefreshUnknown
    for auth in (record(), graceful):
        assert permitted(RefreshHistory(unknown=2), auth, ended=True) is RefreshUnknown
        recovering = RefreshHistory(unknown=1, failed=1, retry_in=3.0)
        assert permitted(recovering, auth, ended=True) is RefreshBackingOff
    assert permitted(RefreshHistory(unknown=5), record(rotation="none"), ended=False) is None


def test_refusal_says_when_to_come_again():
    with pytest.raises(RefreshBackingOff) as refused:
        permit(RefreshHistory(failed=1, retry_in=12.5), record(), connection_id="c", ended=True)
    assert refused.value.metadata == {"connection_id": "c", "retry_in": 12.5}
    assert (refused.value.status, refused.value.retryable) == (503, True)


@frozen
class Own:
    """A flow that can renew what has no refresh token."""

    answer: bool

    def renewable(self, auth, tokens):
        return self.answer


def test_flow_decides_what_can_be_renewed_and_else_the_refresh_token():
    bare = TokenSet(access_token=SecretStr("at"))
    whole = TokenSet(access_token=SecretStr("at"), refresh_token=SecretStr("rt"))
    assert renewable(OAuth2CodeFlow(), record(), whole)
    assert not renewable(OAuth2CodeFlow(), record(), bare)
    assert not renewable(OAuth2CodeFlow(), record(refreshable=False), whole)
    assert not renewable(ApiKeyFlow(), ApiKey(), whole)
    assert renewable(Own(True), record(), bare)
    assert not renewable(Own(False), record(), whole)
