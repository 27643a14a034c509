"""The vendors' records, against what the vendors publish and what their pages say."""

from __future__ import annotations

import hmac
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import ApiKey
from go_services_core.config import Config
from go_services_core.http import InboundRequest
from go_services_core.plugins import PluginManager
from go_services_core.protocols import Rejected, Verified
from go_services_core.providers import build_instances
from go_services_core.secret import SecretStr
from go_services_core.specs import ProviderSpec
from go_services_core.webhook_specs import BasicWebhook, BearerWebhook, DeliveryFields, HmacWebhook, TokenWebhook
from go_services_core.webhooks import vendors
from go_services_core.webhooks.hmac import HmacVerifier
from go_services_core.webhooks.shared import BasicVerifier, BearerVerifier, TokenVerifier

from .driving import NOW, rejection, verdict, verified
from .senders import CHANNEL, FORM, SUBJECTS, hexed, post, shown, stripe, twilio

KEY = SecretStr("vendor-secret-for-tests")


def sent(name: str, body: bytes, secret: SecretStr = KEY) -> InboundRequest:
    return SUBJECTS[name].send(body, NOW, secret)


def verifier_of(name: str) -> Any:
    return SUBJECTS[name].verifier(SUBJECTS[name].record)


# --- published examples --------------------------------------------------------------------------------------------


def test_slacks_documented_example_is_verified() -> None:
    """docs.slack.dev: Verifying requests from Slack, "Validating a request"."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = (
        FORM,
        ("X-Slack-Request-Timestamp", "1531420618"),
        ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
    )
    request = InboundRequest("POST", "/hooks", headers, body)
    now = datetime.fromtimestamp(1531420618, UTC)
    found = verified(HmacVerifier(vendors.SLACK), request, ["8f742231b10e8888abcd99yyyzzz85a5"], now)
    assert found == Verified(
        delivery_id="398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        event="/webhook-collect",
        timestamp=now,
        resource="G8PSS9T3V",
    )


def test_twilios_documented_example_is_verified() -> None:
    """twilio.com/docs/usage/security: "Validating Signatures from Twilio", the example with the token 12345."""
    body = urlencode(
        {
            "Digits": "1234",
            "To": "+18005551212",
            "From": "+14158675309",
            "Caller": "+14158675309",
            "CallSid": "CA1234567890ABCDE",
        }
    ).encode()
    record = evolve(vendors.TWILIO, public_url="https://mycompany.com")
    headers = (FORM, ("X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8="))
    request = InboundRequest("POST", "/myapp.php?foo=1&bar=2", headers, body)
    assert verified(HmacVerifier(record), request, ["12345"]).resource == "CA1234567890ABCDE"
    other = InboundRequest("POST", "/myapp.php?foo=1&bar=3", headers, body)
    assert rejection(HmacVerifier(record), other, ["12345"]) == "no signature matches"


# --- what each delivery says ---------------------------------------------------------------------------------------

STRIPE_BODY = json.dumps({"id": "evt_1", "type": "charge.paid", "data": {"object": {"id": "ch_1"}}}).encode()


@pytest.mark.parametrize(
    ("name", "body", "id", "event", "resource"),
    [
        ("github", b'{"repository": {"id": 42}}', "d-1", "push", "42"),
        ("stripe", STRIPE_BODY, "evt_1", "charge.paid", "ch_1"),
        (
            "slack",
            b'{"event_id": "Ev1", "event": {"type": "app_mention", "channel": "C1"}}',
            "Ev1",
            "app_mention",
            "C1",
        ),
        ("shopify", b'{"id": 820982911946154508}', "w-1", "orders/create", "820982911946154508"),
        ("google_channel", b"", "chan-1:7", "exists", "res-1"),
    ],
)
def test_id_event_and_resource_are_found(name: str, body: bytes, id: str, event: str, resource: str) -> None:
    found = verified(verifier_of(name), sent(name, body), [KEY])
    assert (found.delivery_id, found.event, found.resource) == (id, event, resource)


def test_metas_and_tiktoks_events_are_found() -> None:
    meta = {"object": "page", "entry": [{"id": "123", "changes": [{"field": "feed"}]}]}
    found = verified(verifier_of("meta"), sent("meta", json.dumps(meta).encode()), [KEY])
    assert (found.event, found.resource) == ("feed", "123")
    body = json.dumps({"event": "video.publish.completed", "user_openid": "act.1", "content": "{}"}).encode()
    found = verified(verifier_of("tiktok"), sent("tiktok", body), [KEY])
    assert (found.event, found.resource, found.timestamp) == ("video.publish.completed", "act.1", NOW)


# --- ids made of the body ------------------------------------------------------------------------------------------


def test_equal_bodies_are_one_delivery_for_a_while_and_not_for_ever() -> None:
    """What is signed alone would make equal events the same for ever; behaviour of repetitions over a day stays."""
    check, request = verifier_of("meta"), sent("meta", b'{"object": "page"}')
    start = datetime.fromtimestamp(259_200 * 7000, UTC)
    ids = [
        verified(check, request, [KEY], start + timedelta(seconds=seconds)).delivery_id
        for seconds in (0, 86_400, 259_199, 259_200, 259_200 * 2)
    ]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids)) == 3
    assert sha256(b'{"object": "page"}').hexdigest() in ids[0]
    other = verified(check, sent("meta", b'{"object": "user"}'), [KEY], start)
    assert other.delivery_id not in ids


def test_a_delivery_without_the_id_of_the_record_is_rejected() -> None:
    check = verifier_of("stripe")
    for body in (b"{}", b"[]", b'{"id": ""}', b'{"id": {}}', b'{"id": true}', b"not json", b'{"id": "a\\u0000"}'):
        reason = rejection(check, sent("stripe", body), [KEY])
        assert reason == "the body has no delivery id where the record says"


# --- signatures in a list of pairs ---------------------------------------------------------------------------------


def stripe_header(value: str, body: bytes = STRIPE_BODY) -> InboundRequest:
    return post(body, ("Stripe-Signature", value))


STAMP = int(NOW.timestamp())
GOOD = hexed(KEY, f"{STAMP}.".encode() + STRIPE_BODY)


@pytest.mark.parametrize(
    "value",
    [
        f"t={STAMP},v1={GOOD}",
        f"v1={GOOD},t={STAMP}",
        f"t={STAMP}, v1=other, v1={GOOD}, v0=old",
        f"t={STAMP},,v1,=,v1=ä\ud800,v1={GOOD}",
    ],
)
def test_one_good_signature_of_the_named_kind_is_enough(value: str) -> None:  # P64
    assert isinstance(verdict(HmacVerifier(vendors.STRIPE), stripe_header(value), [KEY]), Verified)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f"t={STAMP},v0={GOOD}", "no signature matches"),
        (f"t={STAMP},{GOOD}", "no signature matches"),
        (f"t={STAMP} v1={GOOD}", "t of the header Stripe-Signature is not a time in Unix seconds"),
        (f"v1={GOOD}", "t of the header Stripe-Signature is missing or occurs twice"),
        (f"t={STAMP},t={STAMP},v1={GOOD}", "t of the header Stripe-Signature is missing or occurs twice"),
        (f"t={STAMP}.0,v1={GOOD}", "t of the header Stripe-Signature is not a time in Unix seconds"),
        (f"t={STAMP + 1},v1={GOOD}", "no signature matches"),
        (f"t={STAMP - 301},v1={GOOD}", "the timestamp is outside the tolerance"),
    ],
)
def test_a_list_without_a_good_signature_is_rejected(value: str, reason: str) -> None:
    assert rejection(HmacVerifier(vendors.STRIPE), stripe_header(value), [KEY]) == reason


def test_more_signatures_than_anybody_sends_are_not_compared() -> None:
    header = f"t={STAMP}," + "v1=0," * 1000 + f"v1={GOOD}"
    assert rejection(HmacVerifier(vendors.STRIPE), stripe_header(header), [KEY]) == "no signature matches"


# --- the signed URL ------------------------------------------------------------------------------------------------


def test_the_signed_url_is_the_configured_one_whatever_the_request_says() -> None:
    request = twilio(b"MessageSid=SM1&MessageStatus=sent", NOW, KEY)
    spoofed = evolve(
        request, headers=(*request.headers, ("Host", "evil.example"), ("X-Forwarded-Host", "evil.example"))
    )
    assert isinstance(verdict(verifier_of("twilio"), spoofed, [KEY]), Verified)
    behind = HmacVerifier(evolve(vendors.TWILIO, public_url="https://app.example.com/"))
    assert isinstance(verdict(behind, request, [KEY]), Verified)
    other = HmacVerifier(evolve(vendors.TWILIO, public_url="http://app.example.com"))
    assert rejection(other, request, [KEY]) == "no signature matches"


def test_a_form_is_covered_by_its_parameters_and_another_body_by_its_digest() -> None:
    check = verifier_of("twilio")
    as_json = b'{"MessageSid": "SM1"}'
    target = "/hooks?bodySHA256=" + sha256(as_json).hexdigest()
    signed = evolve(twilio(b"", NOW, KEY, target=target), body=as_json)
    assert isinstance(verdict(check, signed, [KEY]), Verified)
    reason = "the parameter bodySHA256 is not the body's digest"
    assert rejection(check, evolve(signed, body=b'{"MessageSid": "SM2"}'), [KEY]) == reason
    uncovered = evolve(twilio(b"", NOW, KEY), headers=twilio(b"", NOW, KEY).headers[1:], body=as_json)
    assert rejection(check, uncovered, [KEY]) == "the body is no form that can be read, and nothing else covers it"
    unread = evolve(twilio(b"", NOW, KEY), body=b"a=%ff")
    assert rejection(check, unread, [KEY]) == "the body is no form that can be read, and nothing else covers it"


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=6), st.randoms())
def test_the_order_of_the_parameters_does_not_matter(form: dict[str, str], made: Any) -> None:
    pairs = [(name, value) for name, value in form.items() if (name + value).isprintable()]
    text = "https://app.example.com/h" + "".join(name + value for name, value in sorted(pairs))
    digest = b64encode(hmac.new(KEY.reveal().encode(), text.encode(), "sha1").digest()).decode()
    made.shuffle(pairs)
    request = InboundRequest("POST", "/h", (FORM, ("X-Twilio-Signature", digest)), urlencode(pairs).encode())
    assert isinstance(verdict(verifier_of("twilio"), request, [KEY]), Verified)


def test_webhook_url_of_the_providers_table_is_the_signed_one() -> None:
    manager = PluginManager.from_config(Config.load(None, environ={}, arguments={}))
    manager.load()
    spec = ProviderSpec(id="twilio", name="Twilio", auth=(ApiKey(),), webhook=vendors.TWILIO)
    catalog = manager.catalog([spec])
    config = Config.load(None, environ={}, arguments={"providers.twilio.webhook_url": "https://app.example.com/"})
    made = build_instances(config, catalog, SecretStr)["twilio"]
    request = twilio(b"MessageSid=SM1", NOW, KEY)
    assert isinstance(verdict(HmacVerifier(made.spec.webhook), request, [KEY]), Verified)


# --- channels ------------------------------------------------------------------------------------------------------


def test_message_numbers_of_two_channels_do_not_collide() -> None:
    """Each channel counts from 1, so that a number alone would make the second channel's first message a duplicate."""
    ids = set()
    for channel in ("chan-1", "chan-2"):
        headers = tuple((name, channel if name == "X-Goog-Channel-ID" else value) for name, value in CHANNEL)
        request = shown(*headers, header="X-Goog-Channel-Token")(b"", NOW, KEY)
        found = verified(verifier_of("google_channel"), request, [KEY])
        assert found.channel == channel
        assert TokenVerifier(vendors.GOOGLE_CHANNEL).channel(request) == channel
        ids.add(found.delivery_id)
    assert ids == {"chan-1:7", "chan-2:7"}


def test_the_sync_message_of_a_channel_is_a_delivery_of_its_own() -> None:
    headers = tuple((name, "sync" if name == "X-Goog-Resource-State" else value) for name, value in CHANNEL)
    request = shown(*headers, header="X-Goog-Channel-Token")(b"", NOW, KEY)
    assert verified(verifier_of("google_channel"), request, [KEY]).event == "sync"


def test_a_delivery_that_names_no_channel_claims_none_and_is_rejected() -> None:
    check = TokenVerifier(vendors.GOOGLE_CHANNEL)
    request = shown(*CHANNEL[1:], header="X-Goog-Channel-Token")(b"", NOW, KEY)
    assert check.channel(request) is None
    assert rejection(check, request, [KEY]) == "the header X-Goog-Channel-ID is missing"


def test_a_record_without_channels_claims_none() -> None:
    assert HmacVerifier(vendors.GITHUB).channel(sent("github", b"{}")) is None


def test_a_signed_record_with_channels_reads_the_one_that_is_claimed() -> None:
    check = HmacVerifier(evolve(vendors.GITHUB, channel_header="X-Channel"))
    request = sent("github", b"{}")
    assert check.channel(request) is None
    assert check.channel(evolve(request, headers=(*request.headers, ("X-Channel", "c1")))) == "c1"


# --- shared secrets ------------------------------------------------------------------------------------------------


def test_a_token_in_the_query_is_taken_once() -> None:
    check = TokenVerifier(TokenWebhook(param="token", id_header="X-Id"))
    request = InboundRequest("POST", f"/hooks?token={KEY.reveal()}", (("X-Id", "1"),), b"")
    assert verified(check, request, [KEY]).delivery_id == "1"
    for target in ("/hooks", "/hooks?token=", f"/hooks?token={KEY.reveal()}&token=x"):
        reason = rejection(check, evolve(request, target=target), [KEY])
        assert reason == "the parameter token is missing or occurs twice"
    assert "wrong" in rejection(check, evolve(request, target="/hooks?token=other"), [KEY])


@pytest.mark.parametrize(
    "value", ["Basic aG9va3M6", "basic", "Basic !!!", "Basic /w==", "Bearer aG9va3M6cHc=", "Basic a b"]
)
def test_basic_credentials_that_are_none_are_rejected(value: str) -> None:
    check = BasicVerifier(BasicWebhook(id_header="X-Id"))
    request = post(b"", ("X-Id", "1"), ("Authorization", value))
    assert isinstance(verdict(check, request, ["hooks:pw"]), Rejected)


def test_basic_credentials_are_user_and_password() -> None:
    check = BasicVerifier(BasicWebhook(id_header="X-Id"))
    value = b64encode("hooks:pä:w".encode()).decode()
    request = post(b"", ("X-Id", "1"), ("authorization", f"bAsIc {value}"))
    assert verified(check, request, ["old:pw", "hooks:pä:w"]).delivery_id == "1"


def test_two_authorization_headers_are_rejected() -> None:
    check = BearerVerifier(BearerWebhook(id_header="X-Id"))
    good = ("Authorization", f"Bearer {KEY.reveal()}")
    assert verified(check, post(b"", ("X-Id", "1"), good), [KEY])
    assert "Authorization" in rejection(check, post(b"", ("X-Id", "1"), good, good), [KEY])


# --- keys and times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["hex", "base64"])
def test_keys_are_decoded_and_a_secret_that_is_none_is_not_used(form: Any) -> None:
    key = bytes(range(32))
    text = "k_" + (key.hex() if form == "hex" else b64encode(key).decode())
    record = HmacWebhook(signature_header="X-Sig", key=form, key_prefix="k_", id_header="X-Id")
    request = post(b"{}", ("X-Id", "1"), ("X-Sig", hmac.new(key, b"{}", "sha256").hexdigest()))
    assert verified(HmacVerifier(record), request, ["not a key!", text])
    assert verified(HmacVerifier(record), request, [text.removeprefix("k_")])
    for secret in ("not a key!", "k_", "zz", "\ud800"):
        assert rejection(HmacVerifier(record), request, [secret]) == f"no webhook secret is a key in {form} form"


@pytest.mark.parametrize(
    ("unit", "good", "bad"),
    [
        ("milliseconds", str(STAMP * 1000), ["2026-01-01", "1" * 15, "-1", str(STAMP)]),
        ("iso8601", "2026-01-01T00:00:00Z", ["2026-01-01T00:00:00", "now", str(STAMP), "0001-01-01T00:00:00+14:00"]),
    ],
)
def test_other_forms_of_time_are_read_strictly(unit: Any, good: str, bad: list[str]) -> None:
    record = HmacWebhook(
        signature_header="X-Sig",
        timestamp_header="X-Time",
        timestamp_unit=unit,
        signed=("timestamp", "body"),
        id_header="X-Id",
    )

    def request(stamp: str) -> InboundRequest:
        return post(b"{}", ("X-Id", "1"), ("X-Time", stamp), ("X-Sig", hexed(KEY, f"{stamp}.".encode() + b"{}")))

    assert verified(HmacVerifier(record), request(good), [KEY]).timestamp == NOW
    for stamp in bad:
        assert isinstance(verdict(HmacVerifier(record), request(stamp), [KEY]), Rejected), stamp


def test_method_path_and_headers_can_be_signed() -> None:
    record = HmacWebhook(
        signature_header="X-Sig",
        signed=("text:v9", "method", "path", "target", "header:X-Nonce", "body"),
        joiner="|",
        id_header="X-Id",
    )
    message = b"v9|POST|/hooks|/hooks?a=1|n1|{}"
    request = post(b"{}", ("X-Id", "1"), ("X-Nonce", "n1"), ("X-Sig", hexed(KEY, message)), target="/hooks?a=1")
    assert verified(HmacVerifier(record), request, [KEY])
    for other in (
        evolve(request, method="PUT"),
        evolve(request, target="/hooks?a=2"),
        evolve(request, target="/h?a=1"),
    ):
        assert rejection(HmacVerifier(record), other, [KEY]) == "no signature matches"
    without = evolve(request, headers=tuple(pair for pair in request.headers if pair[0] != "X-Nonce"))
    assert rejection(HmacVerifier(record), without, [KEY]) == "the header X-Nonce is missing"
    moved = post(b"{}", ("X-Id", "1"), ("X-Nonce", "n|1"), ("X-Sig", hexed(KEY, message)))
    assert "joiner" in rejection(HmacVerifier(record), moved, [KEY])  # P65


# --- records that cannot protect -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verifier", "record", "names"),
    [
        (HmacVerifier, HmacWebhook(signature_header="S"), "id_header, id_field or id_bucket"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_header="I", id_bucket=5.0), "excludes"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_bucket=float("inf")), "id_bucket"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_bucket=float("nan")), "id_bucket"),
        (HmacVerifier, HmacWebhook(signature_header="", id_header="I"), "signature_header"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_header="I", signed=("body", "cookie")), "'cookie'"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_header="I", signed=("body", "header:")), "'header:'"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_field="id", signed=("id", "body")), "id_header"),
        (
            HmacVerifier,
            HmacWebhook(signature_header="S", id_field="i", signed=("header:X", "body"), joiner=""),
            "joiner",
        ),
        (HmacVerifier, HmacWebhook(signature_header="S", id_header="I", signature_field="v1"), "separator"),
        (HmacVerifier, evolve(vendors.TWILIO, public_url=""), "public_url"),
        (HmacVerifier, vendors.TWILIO, "public_url"),
        (HmacVerifier, HmacWebhook(signature_header="S", id_header="I", id_per_channel=True), "channel_header"),
        (TokenVerifier, TokenWebhook(id_header="I"), "header and param"),
        (TokenVerifier, TokenWebhook(id_header="I", header="A", param="b"), "header and param"),
        (BearerVerifier, BearerWebhook(), "id_header, id_field or id_bucket"),
        (BasicVerifier, BasicWebhook(), "id_header, id_field or id_bucket"),
    ],
)
def test_a_record_that_cannot_protect_makes_no_verifier(verifier: Any, record: DeliveryFields, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        verifier(record)


# --- hostile input -------------------------------------------------------------------------------------------------

ANY = st.text(st.characters(codec=None) | st.sampled_from("\ud800\r\n\0=,;. "), max_size=40)
HEADERS = st.sampled_from(
    [
        "Stripe-Signature", "X-Slack-Signature", "X-Slack-Request-Timestamp", "X-Hub-Signature-256",
        "TikTok-Signature", "X-Twilio-Signature", "Authorization", "X-Goog-Channel-Token", "X-Goog-Channel-ID",
        "X-Goog-Message-Number", "webhook-id", "webhook-timestamp", "webhook-signature", "Content-Type", "X-Id",
        "X-Token",
    ]
)  # fmt: skip


@given(
    method=st.sampled_from(["GET", "POST", ""]) | ANY,
    target=ANY | ANY.map(lambda text: "/hooks?hub.mode=subscribe&hub.verify_token=" + text),
    headers=st.lists(st.tuples(HEADERS, ANY | st.just(str(STAMP)) | st.just(FORM[1])), max_size=6),
    body=st.binary(max_size=60),
)
def test_no_request_makes_a_scheme_raise(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
    request = InboundRequest(method, target, tuple(headers), body)
    for name in SUBJECTS:
        assert isinstance(verdict(verifier_of(name), request, [KEY, "verify_token"]), Rejected), name


@given(body=st.binary(max_size=80) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "type", "data", "entry", "event", "object", "0"]), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_signed_body_makes_a_scheme_raise(body: bytes) -> None:
    for name in ("stripe", "slack", "meta", "tiktok", "shopify", "github"):
        found = verdict(verifier_of(name), sent(name, body), [KEY])
        if isinstance(found, Verified):
            assert 0 < len(found.delivery_id) <= 255
            assert found.delivery_id.isprintable()
            assert len(found.event) <= 120
            assert len(found.resource) <= 255


def test_nothing_is_parsed_before_it_was_verified(monkeypatch: pytest.MonkeyPatch) -> None:  # P61
    from go_services_core.webhooks import reading

    parsed: list[bytes] = []
    read = reading.read_json
    monkeypatch.setattr(reading, "read_json", lambda body: parsed.append(body) or read(body))
    assert isinstance(verdict(HmacVerifier(vendors.STRIPE), stripe(STRIPE_BODY, NOW, KEY), ["other"]), Rejected)
    assert parsed == []
    assert isinstance(verdict(HmacVerifier(vendors.STRIPE), stripe(STRIPE_BODY, NOW, KEY), [KEY]), Verified)
    assert parsed == [STRIPE_BODY]
