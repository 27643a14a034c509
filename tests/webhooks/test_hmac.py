"""One HMAC scheme, as its record says."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.http import Headers, InboundRequest
from go_services_core.protocols import Rejected, Verdict, Verified
from go_services_core.webhook_specs import HmacWebhook
from go_services_core.webhooks.hmac import HmacVerifier

from . import driving
from .driving import NOW

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

STAMP = str(int(NOW.timestamp()))
KEY, OLD_KEY = "new-webhook-key", "old-webhook-key"

GITHUB = HmacWebhook(
    signature_header="X-Hub-Signature-256",
    prefix="sha256=",
    id_header="X-GitHub-Delivery",
    event_header="X-GitHub-Event",
)
STANDARD = HmacWebhook(
    signature_header="webhook-signature",
    encoding="base64",
    prefix="v1,",
    signed=("id", "timestamp", "body"),
    id_header="webhook-id",
    timestamp_header="webhook-timestamp",
    event_field="data.type",
)
BODY = b'{"data": {"type": "item.created"}, "n": 1.0}'


def verdict(
    record: HmacWebhook,
    headers: Headers,
    body: bytes,
    *,
    secrets: Sequence[str] = (KEY,),
    now: datetime = NOW,
) -> Verdict:
    return driving.verdict(HmacVerifier(record), InboundRequest("POST", "/hooks", headers, body), secrets, now)


def rejection(record: HmacWebhook, headers: Headers, body: bytes, **more: Any) -> str:
    found = verdict(record, headers, body, **more)
    assert isinstance(found, Rejected)
    return found.reason


def mac(message: bytes, secret: str = KEY) -> str:
    return b64encode(hmac.digest(secret.encode(), message, "sha256")).decode()


def standard(
    body: bytes = BODY, *, id: str = "msg_1", stamp: str = STAMP, secret: str = KEY, signature: str | None = None
) -> Headers:
    made = "v1," + mac(f"{id}.{stamp}.".encode() + body, secret)
    return (("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", signature or made))


def replaced(headers: Headers, name: str, value: str | None) -> Headers:
    kept = tuple(pair for pair in headers if pair[0] != name)
    return kept if value is None else (*kept, (name, value))


# --- what is accepted ----------------------------------------------------------------------------------------------


def test_githubs_documented_example_is_verified() -> None:
    """docs.github.com: Validating webhook deliveries, "Testing the webhook payload validation"."""
    headers = (
        ("x-github-event", "ping"),
        ("X-GITHUB-DELIVERY", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        (
            "X-Hub-Signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
    )
    found = verdict(GITHUB, headers, b"Hello, World!", secrets=["It's a Secret to Everybody"])
    assert found == Verified(delivery_id="72d3162e-cc78-11e3-81ab-4c9367dc0958", event="ping", timestamp=None)


def test_id_timestamp_and_body_are_verified_together() -> None:
    assert verdict(STANDARD, standard(), BODY) == Verified(delivery_id="msg_1", event="item.created", timestamp=NOW)


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sig="])
def test_the_record_states_the_variant(algorithm: Any, encoding: Any, prefix: str) -> None:
    record = HmacWebhook(
        signature_header="X-Sig", algorithm=algorithm, encoding=encoding, prefix=prefix, id_header="X-Id"
    )
    digest = hmac.new(KEY.encode(), BODY, getattr(hashlib, algorithm))
    text = digest.hexdigest() if encoding == "hex" else b64encode(digest.digest()).decode()
    headers = (("X-Sig", prefix + text), ("X-Id", "1"))
    assert isinstance(verdict(record, headers, BODY), Verified)
    for other in (
        evolve(record, algorithm="sha256" if algorithm != "sha256" else "sha1"),
        evolve(record, prefix="other="),
    ):
        assert rejection(other, headers, BODY) == "no signature matches"


@pytest.mark.parametrize("order", [("timestamp", "body"), ("body", "timestamp"), ("timestamp", "id", "body")])
def test_the_parts_are_signed_in_the_records_order(order: Any) -> None:
    record = evolve(STANDARD, signed=order, joiner=":")
    parts = {"id": b"msg_1", "timestamp": STAMP.encode(), "body": BODY}
    headers = standard(signature="v1," + mac(b":".join(parts[name] for name in order)))
    assert isinstance(verdict(record, headers, BODY), Verified)
    assert rejection(evolve(record, joiner=";"), headers, BODY) == "no signature matches"


# --- several signatures and secrets: P64 ---------------------------------------------------------------------------

GOOD = "v1," + mac(f"msg_1.{STAMP}.".encode() + BODY)


@pytest.mark.parametrize(
    "listed",
    [
        f"v1,{mac(b'other')} {GOOD}",
        f"{GOOD} v1,{mac(b'other')}",
        f"v1a,ed25519signature {GOOD}",
        f"v1, , v1,!!! v1 nonsense {GOOD}",
        f"v1,ä€ {GOOD}",
        f"v1,\ud800 {GOOD}",
        f"  {GOOD}  ",
    ],
)
def test_one_good_signature_among_several_is_enough(listed: str) -> None:
    assert isinstance(verdict(STANDARD, standard(signature=listed), BODY), Verified)


@pytest.mark.parametrize(
    "listed",
    [
        f"v1,{mac(b'other')} v1,{mac(b'another')}",
        GOOD.removeprefix("v1,"),
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "=",
        "v2" + GOOD[2:],
        GOOD.replace(",", ", "),
        "v1,",
        "v1",
        ",",
    ],
)
def test_no_good_signature_is_rejected(listed: str) -> None:
    assert rejection(STANDARD, standard(signature=listed), BODY) == "no signature matches"


def test_every_live_secret_is_tried_during_a_rotation() -> None:  # P64
    for secret in (KEY, OLD_KEY):
        assert isinstance(verdict(STANDARD, standard(secret=secret), BODY, secrets=[KEY, OLD_KEY]), Verified)
    assert rejection(STANDARD, standard(secret=OLD_KEY), BODY, secrets=[KEY]) == "no signature matches"


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_without_a_secret_nothing_is_accepted(secrets: list[str]) -> None:
    assert rejection(STANDARD, standard(secret=""), BODY, secrets=secrets) == "no webhook secret is configured"


def test_an_empty_secret_beside_a_live_one_signs_nothing() -> None:
    assert rejection(STANDARD, standard(secret=""), BODY, secrets=["", KEY]) == "no signature matches"


# --- what is missing or malformed: P62 -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_header_is_rejected_by_name(name: str, value: str | None) -> None:
    assert rejection(STANDARD, replaced(standard(), name, value), BODY) == f"the header {name} is missing"


@pytest.mark.parametrize("id", ["a" * 256, "a\nb", "a\0b", "\ud800"])
def test_an_id_that_no_table_should_hold_is_rejected(id: str) -> None:
    assert rejection(STANDARD, replaced(standard(), "webhook-id", id), BODY) == "the header webhook-id is not an id"


@pytest.mark.parametrize(
    "stamp",
    ["soon", "-1", "+1767225600", "1767225600.5", "1e9", "NaN", "inf", "٣", "²", "1" * 12, "9" * 12, "1" * 400, "0x1"],
)
def test_a_timestamp_that_is_no_number_of_seconds_is_rejected(stamp: str) -> None:
    reason = "the header webhook-timestamp is not a time in Unix seconds"
    assert rejection(STANDARD, standard(stamp=stamp), BODY) == reason


# --- time: P63 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-301, 301, -86400, 86400 * 365, 300.001])
def test_a_stale_or_future_timestamp_is_rejected_though_it_is_signed(seconds: float) -> None:
    now = NOW + timedelta(seconds=seconds)
    assert rejection(STANDARD, standard(), BODY, now=now) == "the timestamp is outside the tolerance"


@pytest.mark.parametrize("seconds", [-300, -1, 0, 1, 300])
def test_a_timestamp_within_the_tolerance_is_accepted(seconds: int) -> None:
    assert isinstance(verdict(STANDARD, standard(), BODY, now=NOW + timedelta(seconds=seconds)), Verified)


def test_a_fresh_timestamp_does_not_save_an_old_signature() -> None:
    later = NOW + timedelta(hours=1)
    forged = replaced(standard(), "webhook-timestamp", str(int(later.timestamp())))
    assert rejection(STANDARD, forged, BODY, now=later) == "no signature matches"


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf"), float("-inf")])
def test_a_tolerance_that_would_switch_the_check_off_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        HmacVerifier(evolve(STANDARD, tolerance=tolerance))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"signed": ("timestamp",)}, "signed must cover the body"),
        ({"timestamp_header": None}, "timestamp_header"),
        ({"joiner": ""}, "joiner"),
    ],
)
def test_a_record_that_cannot_protect_is_refused(change: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        HmacVerifier(evolve(STANDARD, **change))


# --- forgery -------------------------------------------------------------------------------------------------------


def test_an_id_with_the_joiner_cannot_move_the_border_of_the_parts() -> None:  # P65
    """One message, cut differently: id "msg" at time STAMP with the body "STAMP.x" is id "msg.STAMP" with "x"."""
    signed = f"msg.{STAMP}.{STAMP}.x".encode()
    listed = "v1," + mac(signed)
    honest = (("webhook-id", "msg"), ("webhook-timestamp", STAMP), ("webhook-signature", listed))
    assert isinstance(verdict(STANDARD, honest, f"{STAMP}.x".encode()), Verified)
    forged = (("webhook-id", f"msg.{STAMP}"), ("webhook-timestamp", STAMP), ("webhook-signature", listed))
    assert rejection(STANDARD, forged, b"x") == "the header webhook-id holds the joiner of the signed parts"


def test_an_unsigned_id_may_hold_the_joiner() -> None:
    headers = (
        ("X-GitHub-Delivery", "a.b"),
        ("X-Hub-Signature-256", "sha256=" + hmac.new(b"k", BODY, "sha256").hexdigest()),
    )
    assert isinstance(verdict(GITHUB, headers, BODY, secrets=["k"]), Verified)


def test_reserialised_json_fails() -> None:  # P60
    again = json.dumps(json.loads(BODY)).encode()
    assert json.loads(again) == json.loads(BODY)
    assert rejection(STANDARD, standard(), again.replace(b" ", b"")) == "no signature matches"


@given(body=st.binary(), at=st.integers(min_value=0), flip=st.integers(1, 255))
def test_any_changed_byte_fails(body: bytes, at: int, flip: int) -> None:
    headers = standard(body)
    assert isinstance(verdict(STANDARD, headers, body), Verified)
    changed = bytearray(body or b"\0")
    changed[at % len(changed)] ^= flip
    assert isinstance(verdict(STANDARD, headers, bytes(changed)), Rejected)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_a_changed_signed_header_fails(name: str) -> None:
    value = "msg_2" if name == "webhook-id" else str(int(STAMP) + 1)
    assert rejection(STANDARD, replaced(standard(), name, value), BODY) == "no signature matches"


# --- the event's name: P61 -----------------------------------------------------------------------------------------


def test_nothing_is_parsed_before_the_signature_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:  # P61
    parsed: list[bytes] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda body: parsed.append(body) or loads(body))
    assert rejection(STANDARD, standard(secret="wrong"), BODY) == "no signature matches"
    assert parsed == []
    assert isinstance(verdict(STANDARD, standard(), BODY), Verified)
    assert parsed == [BODY]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"data":"type"}',
        b'{"data":{"type":7}}',
        b'{"data":{"type":""}}',
        b'{"data":{"type":"a\\u0000b"}}',
        json.dumps({"data": {"type": "x" * 121}}).encode(),
        b"\xff",
        b"[" * 200_000,
    ],
)
def test_a_verified_delivery_without_a_usable_event_name_is_unknown(body: bytes) -> None:
    found = verdict(STANDARD, standard(body), body)
    assert isinstance(found, Verified)
    assert found.event == "unknown"


def test_without_event_header_and_field_the_event_is_unknown() -> None:
    found = verdict(evolve(STANDARD, event_field=None), standard(), BODY)
    assert isinstance(found, Verified)
    assert found.event == "unknown"


# --- hostile input -------------------------------------------------------------------------------------------------

TEXT = st.text(ANY, max_size=40)
NAMES = st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "Webhook-ID"]) | TEXT


@given(headers=st.lists(st.tuples(NAMES, TEXT | st.just(STAMP))), body=st.binary())
def test_no_delivery_makes_the_verifier_fail(headers: list[tuple[str, str]], body: bytes) -> None:
    for record in (STANDARD, GITHUB):
        assert isinstance(verdict(record, tuple(headers), body), Rejected)


@given(signature=TEXT, id=TEXT, stamp=TEXT | st.from_regex(r"[0-9]{1,14}", fullmatch=True))
def test_no_header_value_makes_the_verifier_fail(signature: str, id: str, stamp: str) -> None:
    headers = (("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", signature))
    assert isinstance(verdict(STANDARD, headers, BODY), Rejected)


@given(id=TEXT, body=st.binary())
def test_a_reason_repeats_neither_secret_nor_expected_signature(id: str, body: bytes) -> None:
    headers = replaced(standard(body), "webhook-id", id)
    found = verdict(STANDARD, headers, body)
    if isinstance(found, Rejected):
        assert KEY not in found.reason
        assert mac(f"{id}.{STAMP}.".encode("utf-8", "replace") + body) not in found.reason
