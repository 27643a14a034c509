"""The schemes that need asymmetric keys: Ed25519, OpenID Connect push, Amazon SNS, certificates in TLS."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwk as jose_jwk
from joserfc import jws as jose_jws
from joserfc import jwt as jose_jwt

from go_services_auth_jwt.jose import JwtJose
from go_services_auth_jwt.webhook_ed25519 import Ed25519Verifier
from go_services_auth_jwt.webhook_mtls import MtlsVerifier
from go_services_auth_jwt.webhook_oidc import OidcVerifier
from go_services_auth_jwt.webhook_sns import SnsVerifier
from go_services_core.errors import KeyInvalid, ProviderUnavailable
from go_services_core.http import HttpRequest, HttpResponse, InboundRequest
from go_services_core.protocols import Challenge, FlowStep, Jwks, Rejected, Verdict, Verified
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import MtlsWebhook, OidcWebhook, SnsWebhook, StandardKeyWebhook
from go_services_core.webhooks import vendors
from go_services_core.webhooks.standard import sign

from .keys import NOW, material, pem


def driven(
    verifier: Any,
    request: InboundRequest,
    answers: Any = None,
    *,
    now: datetime = NOW,
    secrets: Sequence[SecretStr] = (),
) -> Verdict:
    """The verdict; ``answers`` gives the answer to each step."""
    flow = verifier.verify(request, secrets=secrets, now=now)
    answer: Any = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        assert answers is not None, f"it asks for {step!r}"
        answer = answers(step)


def reason(found: Verdict) -> str:
    assert isinstance(found, Rejected), found
    return found.reason


# --- Ed25519 -------------------------------------------------------------------------------------------------------


def pair(seed: bytes) -> tuple[SecretStr, SecretStr]:
    """Private and public key in the form of Standard Webhooks."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = key.public_key().public_bytes_raw()
    private = SecretStr("whsk_" + b64encode(seed + public).decode())
    return private, SecretStr("whpk_" + b64encode(public).decode())


PRIVATE, PUBLIC = pair(b"s" * 32)
OTHER, OTHER_PUBLIC = pair(b"o" * 32)
PUBLIC_OF = {PRIVATE.reveal(): PUBLIC, OTHER.reveal(): OTHER_PUBLIC}


def standard(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    return InboundRequest("POST", "/", sign(body, id="msg_1", timestamp=at, secrets=[secret], jose=JwtJose()), body)


class TestStandardKey(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=Ed25519Verifier,
            record=StandardKeyWebhook(),
            send=standard,
            secret=PRIVATE,
            other=OTHER,
            accepts=lambda secret: PUBLIC_OF[secret.reveal()],
            needs=("webhook-id", "webhook-timestamp", "webhook-signature"),
        )


def discord(body: bytes, at: datetime, secret: SecretStr) -> InboundRequest:
    stamp = str(int(at.timestamp()))
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.reveal()))
    headers = (
        ("X-Signature-Ed25519", key.sign(stamp.encode() + body).hex()),
        ("X-Signature-Timestamp", stamp),
    )
    return InboundRequest("POST", "/", headers, body)


def discord_public(secret: SecretStr) -> SecretStr:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.reveal()))
    return SecretStr(key.public_key().public_bytes_raw().hex())


class TestDiscord(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=Ed25519Verifier,
            record=vendors.DISCORD,
            send=discord,
            secret=SecretStr("11" * 32),
            other=SecretStr("22" * 32),
            accepts=discord_public,
            needs=("X-Signature-Ed25519", "X-Signature-Timestamp"),
        )


def test_one_delivery_carries_both_kinds_of_signature() -> None:
    secret = SecretStr("whsec_" + b64encode(os.urandom(32)).decode())
    headers = sign(b"{}", id="msg_1", timestamp=NOW, secrets=[secret, PRIVATE], jose=JwtJose())
    kinds = [one.partition(",")[0] for one in dict(headers)["webhook-signature"].split()]
    assert kinds == ["v1", "v1a"]
    request = InboundRequest("POST", "/", headers, b"{}")
    assert isinstance(driven(Ed25519Verifier(StandardKeyWebhook()), request, secrets=[PUBLIC]), Verified)


def test_a_private_key_needs_a_plugin_and_its_own_form() -> None:
    with pytest.raises(KeyInvalid, match="auth-jwt"):
        sign(b"", id="msg_1", timestamp=NOW, secrets=[PRIVATE])
    short = SecretStr("whsk_" + b64encode(b"k" * 32).decode())
    with pytest.raises(KeyInvalid, match="64 bytes"):
        sign(b"", id="msg_1", timestamp=NOW, secrets=[short], jose=JwtJose())


def test_an_id_with_a_full_stop_is_not_verified() -> None:  # P65
    good = standard(b"{}", NOW, PRIVATE)
    headers = tuple((name, "msg.1" if name == "webhook-id" else value) for name, value in good.headers)
    found = driven(Ed25519Verifier(StandardKeyWebhook()), evolve(good, headers=headers), secrets=[PUBLIC])
    assert "joiner" in reason(found)


# --- OpenID Connect push -------------------------------------------------------------------------------------------

PUSH = OidcWebhook(audience="https://app.example.com/push", email="pusher@project.iam.gserviceaccount.com")
MESSAGE = {
    "message": {
        "data": b64encode(b'{"emailAddress": "a@b.example", "historyId": 9}').decode(),
        "messageId": "136969346945",
        "attributes": {"kind": "mail.changed"},
    },
    "subscription": "projects/p/subscriptions/s",
}
BODY = json.dumps(MESSAGE).encode()


def rsa_key(which: int = 0) -> Any:
    return jose_jwk.RSAKey.import_key(pem("RS256", which), {"kid": f"key-{which}", "use": "sig", "alg": "RS256"})


def key_set(*which: int) -> dict[str, Any]:
    return {"keys": [rsa_key(one).as_dict(private=False) for one in which]}


CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": PUSH.audience,
    "azp": "113774264463038321964",
    "sub": "113774264463038321964",
    "email": PUSH.email,
    "email_verified": True,
    "iat": int(NOW.timestamp()) - 10,
    "exp": int(NOW.timestamp()) + 3590,
}


def pushed(
    claims: dict[str, Any] | None = None, *, key: int = 0, body: bytes = BODY, header: dict[str, Any] | None = None
) -> InboundRequest:
    """A push whose token another implementation (joserfc) signed."""
    head = {"alg": "RS256", "kid": f"key-{key}", **(header or {})}
    token = jose_jwt.encode(head, CLAIMS if claims is None else claims, rsa_key(key))
    return InboundRequest("POST", "/push", (("Authorization", f"Bearer {token}"),), body)


def with_keys(*which: int) -> Any:
    def answers(step: FlowStep) -> Any:
        assert isinstance(step, Jwks)
        assert step.url == "https://www.googleapis.com/oauth2/v3/certs"
        return key_set(*which)

    return answers


class TestOidc(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=OidcVerifier,
            record=PUSH,
            send=lambda body, at, secret: pushed(body=body),
            body=BODY,
            answer=with_keys(0),
            covers_body=False,
            timed=False,
            keyed=False,
            needs=("Authorization",),
        )


def test_a_push_of_pubsub_is_verified_and_its_data_decoded() -> None:
    """docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions"""
    record = evolve(PUSH, event_field="message.attributes.kind", resource_field="data.emailAddress")
    assert driven(OidcVerifier(record), pushed(), with_keys(0)) == Verified(
        delivery_id="136969346945",
        event="mail.changed",
        resource="a@b.example",
        body=b'{"emailAddress": "a@b.example", "historyId": 9}',
    )
    whole = driven(OidcVerifier(evolve(PUSH, data_field=None)), pushed(), with_keys(0))
    assert isinstance(whole, Verified)
    assert whole.body is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example"}, "issuer"),
        ({"aud": "https://other.example/push"}, "audience"),
        ({"aud": [PUSH.audience]}, "audience"),
        ({"email": "other@project.iam.gserviceaccount.com"}, "another account"),
        ({"email_verified": False}, "another account"),
        ({"email_verified": "true"}, "another account"),
        ({"email": None}, "another account"),
        ({"exp": int(NOW.timestamp()) - 61}, "over its time"),
        ({"iat": int(NOW.timestamp()) + 61}, "future"),
        ({"exp": None}, "does not say"),
        ({"iat": "now"}, "does not say"),
        ({"exp": True}, "does not say"),
    ],
)
def test_a_token_that_says_something_else_is_rejected(changes: dict[str, Any], why: str) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    key = rsa_key()
    token = jose_jws.serialize_compact({"alg": "RS256", "kid": "key-0"}, json.dumps(claims).encode(), key)
    request = InboundRequest("POST", "/push", (("Authorization", f"Bearer {token}"),), BODY)
    assert why in reason(driven(OidcVerifier(PUSH), request, with_keys(0)))


def test_the_key_set_is_read_again_once_for_a_key_that_it_lacks() -> None:
    asked: list[bool] = []

    def answers(step: Any) -> Any:
        asked.append(step.again)
        return key_set(1) if step.again else key_set(0)

    assert isinstance(driven(OidcVerifier(PUSH), pushed(key=1), answers), Verified)
    assert asked == [False, True]
    asked.clear()
    found = driven(OidcVerifier(PUSH), pushed(key=2), answers)
    assert asked == [False, True]
    assert "key" in reason(found)


def test_a_token_signed_by_somebody_else_is_rejected() -> None:
    forged = pushed(key=1, header={"kid": "key-0"})
    assert "signature" in reason(driven(OidcVerifier(PUSH), forged, with_keys(0)))
    unsigned = InboundRequest("POST", "/", (("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),), BODY)
    assert isinstance(driven(OidcVerifier(PUSH), unsigned, with_keys(0)), Rejected)


def test_keys_that_cannot_be_read_end_the_flow_so_that_the_sender_tries_again() -> None:
    flow = OidcVerifier(PUSH).verify(pushed(), secrets=(), now=NOW)
    assert next(flow) == Jwks(PUSH.jwks_url)
    with pytest.raises(ProviderUnavailable):
        flow.throw(ProviderUnavailable("down", upstream_status=503))


@pytest.mark.parametrize("data", ["!!!", "YQ", "\u00e4"])
def test_data_that_is_not_base64_is_rejected(data: str) -> None:
    body = json.dumps({"message": {"data": data, "messageId": "1"}}).encode()
    assert "base64" in reason(driven(OidcVerifier(PUSH), pushed(body=body), with_keys(0)))


@pytest.mark.parametrize(
    "change", [{"audience": ""}, {"email": ""}, {"issuers": ()}, {"algorithms": ("HS256",)}, {"leeway": float("nan")}]
)
def test_an_oidc_record_that_cannot_protect_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="OidcWebhook"):
        OidcVerifier(evolve(PUSH, **change))


# --- Amazon SNS ----------------------------------------------------------------------------------------------------

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


# --- certificates in TLS -------------------------------------------------------------------------------------------


def client_certificate(
    name: str = "hooks.partner.example", *, dns: Sequence[str] = (), uris: Sequence[str] = (), days: int = 30
) -> bytes:
    key, subject = material("ES256"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=days))
    names = [*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uris)]
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


PARTNER = client_certificate(dns=["hooks.partner.example"], uris=["spiffe://partner.example/hooks"])


def over_tls(der: bytes | None) -> InboundRequest:
    return InboundRequest("POST", "/hooks", (("X-Id", "1"),), b"{}", der)


class TestMtls(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=MtlsVerifier,
            record=MtlsWebhook(dns_names="hooks.partner.example", id_header="X-Id"),
            send=lambda body, at, secret: InboundRequest("POST", "/hooks", (("X-Id", "1"),), body, PARTNER),
            covers_body=False,
            timed=False,
            keyed=False,
            needs=("X-Id",),
        )


@pytest.mark.parametrize(
    "record",
    [
        MtlsWebhook(id_header="X-Id", subjects="hooks.partner.example"),
        MtlsWebhook(id_header="X-Id", dns_names=("other.example", "HOOKS.partner.example")),
        MtlsWebhook(id_header="X-Id", uris="spiffe://partner.example/hooks"),
        MtlsWebhook(id_header="X-Id", fingerprints=hashlib.sha256(PARTNER).hexdigest().upper()),
        MtlsWebhook(
            id_header="X-Id", fingerprints=hashlib.sha256(PARTNER).digest().hex(":"), subjects="hooks.partner.example"
        ),
    ],
)
def test_the_senders_identity_is_any_that_the_record_names(record: MtlsWebhook) -> None:
    assert isinstance(driven(MtlsVerifier(record), over_tls(PARTNER)), Verified)
    other = client_certificate("other.partner.example", dns=["x.partner.example"])
    for der in (None, b"", b"\x30\x00", other, PARTNER[:-1], PARTNER + b"\0"):
        assert isinstance(driven(MtlsVerifier(record), over_tls(der)), Rejected)


def test_name_and_fingerprint_must_both_fit() -> None:
    record = MtlsWebhook(id_header="X-Id", subjects="other", fingerprints=hashlib.sha256(PARTNER).hexdigest())
    assert "somebody else" in reason(driven(MtlsVerifier(record), over_tls(PARTNER)))


def test_a_certificate_outside_its_time_is_rejected() -> None:
    verifier = MtlsVerifier(MtlsWebhook(id_header="X-Id", subjects="hooks.partner.example"))
    for moment in (NOW + timedelta(days=31), NOW - timedelta(days=2)):
        assert "not valid now" in reason(driven(verifier, over_tls(PARTNER), now=moment))


@given(st.binary(max_size=200))
def test_no_certificate_makes_the_scheme_raise(der: bytes) -> None:
    verifier = MtlsVerifier(MtlsWebhook(id_header="X-Id", subjects="hooks.partner.example"))
    for presented in (der, PARTNER[:40] + der, PARTNER[: len(PARTNER) // 2] + der + PARTNER[len(PARTNER) // 2 :]):
        if presented != PARTNER:
            assert isinstance(driven(verifier, over_tls(presented)), Rejected)


@pytest.mark.parametrize("change", [{}, {"fingerprints": "ab"}, {"fingerprints": "zz" * 32}])
def test_an_mtls_record_that_names_nobody_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="MtlsWebhook"):
        MtlsVerifier(MtlsWebhook(id_header="X-Id", **change))
