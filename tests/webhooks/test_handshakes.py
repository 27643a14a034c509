"""Challenges are sent back only after their token, or their signature, was checked."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from attrs import evolve

from go_services_core.http import InboundRequest
from go_services_core.protocols import Challenge, Rejected
from go_services_core.webhook_specs import BearerWebhook, Handshake
from go_services_core.webhooks import vendors
from go_services_core.webhooks.hmac import HmacVerifier
from go_services_core.webhooks.shared import BearerVerifier

from .driving import NOW, rejection, verdict, verified
from .senders import SUBJECTS, meta, post, slack

APP_SECRET, TOKEN = "meta-app-secret-1", "verify_meta-token-1"
META = HmacVerifier(vendors.META)


def asked(**changes: str | None) -> InboundRequest:
    said = {"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "1158201444"}
    for name, value in changes.items():
        said.pop("hub." + name) if value is None else said.update({"hub." + name: value})
    return InboundRequest("GET", "/hooks/meta?" + urlencode(said), (), b"")


def test_metas_challenge_is_sent_back_as_text() -> None:
    """developers.facebook.com/docs/graph-api/webhooks/getting-started, "Verification Requests"."""
    assert verdict(META, asked(), [APP_SECRET, TOKEN]) == Challenge(body=b"1158201444", content_type="text/plain")
    assert isinstance(verdict(META, asked(), ["verify_new", TOKEN]), Challenge)


@pytest.mark.parametrize(
    "request_",
    [
        asked(verify_token="verify_other"),
        asked(verify_token=""),
        asked(verify_token=None),
        asked(verify_token=APP_SECRET),
        asked(mode="unsubscribe"),
        asked(mode=None),
        asked(challenge=None),
        asked(challenge=""),
        asked(challenge="x" * 1025),
        asked(challenge="ä" * 513),
        InboundRequest("GET", asked().target + "&hub.challenge=2", (), b""),
        InboundRequest("GET", asked().target + "&x=%ff", (), b""),
        InboundRequest("GET", "/hooks/meta", (), b""),
        evolve(asked(), method="HEAD"),
        evolve(asked(), method="POST"),
    ],
)
def test_a_challenge_is_not_sent_back_otherwise(request_: InboundRequest) -> None:
    assert isinstance(verdict(META, request_, [APP_SECRET, TOKEN]), Rejected)


def test_a_challenge_of_a_kibibyte_is_the_longest() -> None:
    found = verdict(META, asked(challenge="x" * 1024), [TOKEN])
    assert found == Challenge(body=b"x" * 1024)


@pytest.mark.parametrize("secrets", [[], [APP_SECRET], [""], ["verify_"]])
def test_without_a_verification_token_no_challenge_is_sent_back(secrets: list[str]) -> None:
    assert rejection(META, asked(), secrets) == "the handshake's token is wrong"


def test_an_empty_token_is_nobodys() -> None:
    assert isinstance(verdict(META, asked(verify_token=""), ["", APP_SECRET, TOKEN]), Rejected)


def test_the_verification_token_signs_nothing() -> None:
    """It stands in URLs and so in access logs: who reads it there must not be able to sign deliveries."""
    from go_services_core.secret import SecretStr

    forged = meta(b'{"object": "page"}', NOW, SecretStr(TOKEN))
    assert rejection(META, forged, [APP_SECRET, TOKEN]) == "no signature matches"
    assert rejection(META, forged, [TOKEN]) == "no webhook secret is configured"
    assert verified(META, meta(b'{"object": "page"}', NOW, SecretStr(APP_SECRET)), [TOKEN, APP_SECRET])


def test_a_reason_holds_neither_token_nor_challenge() -> None:
    reason = rejection(META, asked(verify_token="verify_guess", challenge="reflected"), [TOKEN])
    assert "guess" not in reason
    assert "reflected" not in reason
    assert TOKEN not in reason


# --- in a signed body ----------------------------------------------------------------------------------------------

SLACK = HmacVerifier(vendors.SLACK)
SECRET = SUBJECTS["slack"].secret
ASKED = json.dumps({"token": "old", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY", "type": "url_verification"}).encode()


def test_slacks_challenge_is_sent_back_when_it_is_signed() -> None:
    """docs.slack.dev/reference/events/url_verification"""
    found = verdict(SLACK, slack(ASKED, NOW, SECRET), [SECRET])
    assert found == Challenge(body=b"3eZbrw1aBm2rZgRNFdxV2595E9CY", content_type="text/plain")


def test_a_challenge_that_is_not_signed_is_not_sent_back() -> None:
    assert rejection(SLACK, slack(ASKED, NOW, SUBJECTS["slack"].other), [SECRET]) == "no signature matches"
    unsigned = post(ASKED)
    assert isinstance(verdict(SLACK, unsigned, [SECRET]), Rejected)


@pytest.mark.parametrize("challenge", ["", "x" * 1025, {"a": 1}, None, "\ud800"])
def test_a_challenge_in_a_body_is_bounded_text(challenge: object) -> None:
    body = json.dumps({"challenge": challenge, "type": "url_verification"}).encode()
    found = rejection(SLACK, slack(body, NOW, SECRET), [SECRET])
    assert found == "the handshake's challenge is missing or too long"


def test_a_delivery_with_a_challenge_inside_is_a_delivery() -> None:
    body = json.dumps({"type": "event_callback", "event_id": "Ev1", "challenge": "x"}).encode()
    assert verified(SLACK, slack(body, NOW, SECRET), [SECRET]).delivery_id == "Ev1"


def test_an_echo_can_be_json_and_have_a_token_of_its_own() -> None:
    shake = Handshake(where="body", challenge="data.nonce", token="data.token", answer="json")
    check = BearerVerifier(BearerWebhook(id_field="id", handshake=shake))

    def request(token: str, challenge: str = "n-1") -> InboundRequest:
        body = json.dumps({"id": "1", "data": {"nonce": challenge, "token": token}}).encode()
        return post(body, ("Authorization", "Bearer hook-bearer-1"))

    live = ["hook-bearer-1", "verify_echo"]
    assert verdict(check, request("verify_echo"), live) == Challenge(
        body=b'{"nonce": "n-1"}', content_type="application/json"
    )
    assert rejection(check, request("hook-bearer-1"), live) == "the handshake's token is wrong"
    assert "too long" in rejection(check, request("verify_echo", "ä" * 400), live)


def test_a_record_that_would_answer_anybody_is_refused() -> None:
    for shake in (
        Handshake(where="query", challenge="challenge"),
        Handshake(where="query", challenge="challenge", token="token", token_prefix=""),
    ):
        with pytest.raises(ValueError, match="handshake"):
            HmacVerifier(evolve(vendors.META, handshake=shake))
