"""Deliveries of Amazon SNS, signed by its certificate."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_auth_jwt.webhook_sns import SnsVerifier
from go_services_core.errors import ProviderUnavailable
from go_services_core.http import HttpRequest, HttpResponse, InboundRequest
from go_services_core.protocols import Challenge, Rejected, Verified
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import SnsWebhook

from .keys import NOW, material
from .webhook_verdicts import driven, reason

TOPIC = "arn:aws:sns:eu-central-1:123456789012:orders"
SNS = SnsWebhook(topics=TOPIC)
CERT_URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
SUBSCRIBE_URL = f"https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f"


def certificate(name: str = "sns.amazonaws.com", *, which: int = 0, days: int = 30) -> bytes:
    key, subject = material("RS256", which), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def message(*, version: str = "2", which: int = 0, at: datetime = NOW, **changes: Any) -> dict[str, Any]:
    """A message as https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message-verify-message-signature.html
    has it signed."""
    said: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "My first message",
        "Message": '{"kind": "order.made", "order": {"id": 7}}',
        "Timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        "SignatureVersion": version,
        "SigningCertURL": CERT_URL,
        **changes,
    }
    said = {name: value for name, value in said.items() if value is not None}
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if said["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{said[name]}\n" for name in names if name in said)
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()
    said["Signature"] = b64encode(material("RS256", which).sign(text.encode(), padding.PKCS1v15(), digest)).decode()
    return said


def posted(said: dict[str, Any]) -> InboundRequest:
    return InboundRequest("POST", "/sns", (("Content-Type", "text/plain; charset=UTF-8"),), json.dumps(said).encode())


class Amazon:
    """Answers for Amazon SNS, and remembers what it was asked."""

    def __init__(self, certificate_: bytes | None = None, *, status: int = 200) -> None:
        self.certificate = certificate() if certificate_ is None else certificate_
        self.status = status
        self.asked: list[str] = []

    def __call__(self, step: Any) -> HttpResponse:
        assert isinstance(step, HttpRequest)
        assert step.method == "GET"
        assert step.timeout == 5.0
        assert step.max_body == 65_536
        self.asked.append(step.url)
        return HttpResponse(self.status, body=self.certificate if step.url.endswith(".pem") else b"<xml/>")


class TestSns(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=SnsVerifier,
            record=SNS,
            send=lambda body, at, secret: posted(message(at=at, Message=body.decode("utf-8", "replace"))),
            answer=Amazon(),
            covers_body=False,
            keyed=False,
        )


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["My first message", None])
def test_a_notification_of_either_version_is_verified(version: str, subject: str | None) -> None:
    record = evolve(SNS, event_field="kind", resource_field="order.id")
    found = driven(SnsVerifier(record), posted(message(version=version, Subject=subject)), Amazon())
    assert found == Verified(
        delivery_id="22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        event="order.made",
        timestamp=NOW,
        resource="7",
        body=b'{"kind": "order.made", "order": {"id": 7}}',
    )


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"])
def test_every_signed_field_is_covered(name: str) -> None:
    said = message()
    changed = {
        "Timestamp": "2026-01-01T00:00:01.000Z",
        "TopicArn": TOPIC + "-2",
        "Type": "UnsubscribeConfirmation",
    }.get(name, said[name] + "x")
    verifier = SnsVerifier(evolve(SNS, topics=(TOPIC, TOPIC + "-2")))
    assert isinstance(driven(verifier, posted(said), Amazon()), Verified)
    extra = {"Token": "t", "SubscribeURL": SUBSCRIBE_URL} if name == "Type" else {}
    assert "signature" in reason(driven(verifier, posted({**said, name: changed, **extra}), Amazon()))
    added = {**message(Subject=None), "Subject": "added"}
    assert "signature" in reason(driven(verifier, posted(added), Amazon()))


def test_a_version_that_the_record_leaves_out_is_rejected() -> None:
    verifier = SnsVerifier(evolve(SNS, versions=("2",)))
    assert "version" in reason(driven(verifier, posted(message(version="1")), Amazon()))
    assert "version" in reason(driven(SnsVerifier(SNS), posted(message(version="3")), Amazon()))


@pytest.mark.parametrize(
    "url",
    [
        CERT_URL.replace("https", "http"),
        CERT_URL.replace("amazonaws.com", "amazonaws.com.evil.example"),
        CERT_URL.replace("sns.eu-central-1.amazonaws.com", "evil.example"),
        CERT_URL.replace("sns.eu-central-1.", "sns.eu-central-1.evil."),
        CERT_URL.replace("sns.", "evilsns."),
        CERT_URL.replace("https://", "https://user@"),
        CERT_URL.replace(".com/", ".com:8443/"),
        CERT_URL.replace(
            "https://sns.eu-central-1.amazonaws.com", "https://evil.example\\@sns.eu-central-1.amazonaws.com"
        ),
        "https://evil.example/#" + CERT_URL,
        CERT_URL + "#x",
        CERT_URL.replace("/Simple", "/a/../Simple"),
        "https://sns.eu-central-1.amazonaws.com/other.pem",
        "https://my-bucket.s3.amazonaws.com/SimpleNotificationService-1.pem",
        "https://[sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
        "",
        "\ud800",
    ],
)
def test_a_certificate_from_elsewhere_is_not_fetched(url: str) -> None:
    amazon = Amazon()
    assert isinstance(driven(SnsVerifier(SNS), posted(message(SigningCertURL=url)), amazon), Rejected)
    assert amazon.asked == []


def test_regions_of_china_and_of_the_government_are_amazons() -> None:
    for host in ("sns.cn-north-1.amazonaws.com.cn", "sns.us-gov-west-1.amazonaws.com"):
        url = CERT_URL.replace("sns.eu-central-1.amazonaws.com", host)
        amazon = Amazon()
        assert isinstance(driven(SnsVerifier(SNS), posted(message(SigningCertURL=url)), amazon), Verified)
        assert amazon.asked == [url]


@pytest.mark.parametrize(
    "made",
    [
        certificate("evil.example"),
        certificate("sns.amazonaws.com.evil.example"),
        b"not a certificate",
        certificate(which=1),
        b"",
    ],
)
def test_a_certificate_that_is_not_amazons_signs_nothing(made: bytes) -> None:
    assert isinstance(driven(SnsVerifier(SNS), posted(message()), Amazon(made)), Rejected)


def test_a_certificate_that_is_over_is_not_used() -> None:
    later = NOW + timedelta(days=31)
    found = driven(SnsVerifier(SNS), posted(message(at=later)), Amazon(), now=later)
    assert "certificate" in reason(found)


def test_the_certificate_is_fetched_once_a_day_and_not_after_it_ends() -> None:
    amazon, verifier = Amazon(certificate(days=2)), SnsVerifier(SNS)
    for hours in (0, 1, 23):
        moment = NOW + timedelta(hours=hours)
        assert isinstance(driven(verifier, posted(message(at=moment)), amazon, now=moment), Verified)
    assert len(amazon.asked) == 1
    moment = NOW + timedelta(hours=25)
    assert isinstance(driven(verifier, posted(message(at=moment)), amazon, now=moment), Verified)
    assert len(amazon.asked) == 2
    moment = NOW + timedelta(hours=48, seconds=1)
    assert isinstance(driven(verifier, posted(message(at=moment)), amazon, now=moment), Rejected)
    assert len(amazon.asked) == 3


def test_a_url_without_a_certificate_is_not_asked_by_every_request() -> None:
    amazon, verifier = Amazon(status=404), SnsVerifier(SNS)
    for _ in range(5):
        assert isinstance(driven(verifier, posted(message()), amazon), Rejected)
    assert len(amazon.asked) == 1
    assert isinstance(driven(verifier, posted(message()), amazon, now=NOW + timedelta(seconds=61)), Rejected)
    assert len(amazon.asked) == 2


@pytest.mark.parametrize("status", [500, 503, 429])
def test_while_amazon_fails_the_message_shall_come_again(status: int) -> None:
    with pytest.raises(ProviderUnavailable):
        driven(SnsVerifier(SNS), posted(message()), Amazon(status=status))


def test_a_topic_that_nobody_expects_is_rejected_before_anything_is_fetched() -> None:
    amazon = Amazon()
    said = message(TopicArn="arn:aws:sns:eu-central-1:999999999999:evil")
    assert "topic" in reason(driven(SnsVerifier(SNS), posted(said), amazon))
    assert amazon.asked == []


def confirmation(**changes: Any) -> dict[str, Any]:
    said = {"Type": "SubscriptionConfirmation", "Token": "2336412f", "SubscribeURL": SUBSCRIBE_URL, "Subject": None}
    return message(**{**said, **changes})


def test_a_subscription_is_confirmed_by_fetching_its_pinned_url() -> None:
    amazon = Amazon()
    assert driven(SnsVerifier(SNS), posted(confirmation()), amazon) == Challenge(body=b"")
    assert amazon.asked == [CERT_URL, SUBSCRIBE_URL]


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/", "https://evil.example/?Action=ConfirmSubscription", SUBSCRIBE_URL.replace("/?", "/x?")],
)
def test_a_confirmation_elsewhere_is_not_fetched(url: str) -> None:
    amazon = Amazon()
    assert "URL" in reason(driven(SnsVerifier(SNS), posted(confirmation(SubscribeURL=url)), amazon))
    assert amazon.asked == []


def test_a_confirmation_is_not_fetched_unless_it_is_signed_and_wanted() -> None:
    amazon = Amazon()
    forged = {**confirmation(), "Token": "other"}
    assert "signature" in reason(driven(SnsVerifier(SNS), posted(forged), amazon))
    assert amazon.asked == [CERT_URL]
    unwanted = SnsVerifier(evolve(SNS, confirm=False))
    assert "elsewhere" in reason(driven(unwanted, posted(confirmation()), amazon))
    assert SUBSCRIBE_URL not in amazon.asked


def test_the_end_of_a_subscription_is_a_delivery_that_handlers_see() -> None:
    said = confirmation(Type="UnsubscribeConfirmation")
    found = driven(SnsVerifier(SNS), posted(said), Amazon())
    assert isinstance(found, Verified)
    assert found.event == "sns.unsubscribed"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*message(), "Token", "SubscribeURL"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=2), max_size=2),
    )
)
def test_no_message_makes_the_scheme_raise(changes: dict[str, Any]) -> None:
    said = {**confirmation(), **changes}
    assert isinstance(driven(SnsVerifier(SNS), posted(said), Amazon()), (Rejected, Challenge))


@pytest.mark.parametrize("change", [{"topics": ()}, {"topics": ("orders",)}, {"versions": ()}, {"tolerance": 0.0}])
def test_an_sns_record_that_cannot_protect_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="SnsWebhook"):
        SnsVerifier(evolve(SNS, **change))
