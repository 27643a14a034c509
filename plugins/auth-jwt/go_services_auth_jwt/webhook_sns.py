"""Pushes of Amazon SNS over HTTPS, signed with the key of a certificate that Amazon publishes.

Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from go_services_core.errors import ProviderUnavailable
from go_services_core.http import USER_AGENT, HttpRequest, HttpResponse, InboundRequest
from go_services_core.protocols import Challenge, FlowStep, Rejected, Verdict, Verified
from go_services_core.secret import SecretStr
from go_services_core.webhook_specs import SnsWebhook
from go_services_core.webhooks import reading

_HOST: Final = re.compile(r"sns\.[a-z0-9-]{3,32}\.amazonaws\.com(\.cn)?")
_CERTIFICATE_PATH: Final = re.compile(r"/SimpleNotificationService-[A-Za-z0-9_-]{1,64}\.pem")
_NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_HASHES: Final[Mapping[str, type[hashes.HashAlgorithm]]] = {"1": hashes.SHA1, "2": hashes.SHA256}
_TIMEOUT: Final = 5.0
_MOST_BYTES: Final = 65_536
_MOST_KEPT: Final = 16
"""Certificates that are kept; Amazon has a few per region."""
_LONGEST: Final = timedelta(days=1)
"""How long a certificate is used before it is fetched again."""
_PAUSE: Final = timedelta(seconds=60)
"""How long a URL that gave no certificate is not asked again: a stranger must not decide how often Amazon is asked."""


@frozen
class _Kept:
    """A certificate's key, or None where the URL gave none, and until when that is believed."""

    key: rsa.RSAPublicKey | None
    since: datetime
    until: datetime


class SnsVerifier:
    """Checks messages as an :class:`SnsWebhook` record says, and confirms subscriptions.

    The certificate comes over TLS from an Amazon SNS host and is issued to Amazon SNS. Amazon publishes it without its
    chain, so that what vouches for it is the TLS certificate of that host. What keeps it from being fetched is raised
    out of the flow: Amazon shall try again.
    """

    def __init__(self, record: SnsWebhook) -> None:
        if not record.topics or not all(topic.startswith("arn:") for topic in record.topics):
            raise ValueError("SnsWebhook.topics needs the ARNs of the topics: everybody can make one")
        if not record.versions or not set(record.versions) <= set(_HASHES):
            raise ValueError("SnsWebhook.versions may be 1 and 2")
        if not record.tolerance > 0 or not math.isfinite(record.tolerance):
            raise ValueError("SnsWebhook.tolerance must be a positive number of seconds")
        self._record = record
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """Read the message, which is what is signed and not the body, and check everything it says before its use."""
        message = reading.read_json(request.body)
        fault = self._fault(message, now)
        if fault is not None:
            return Rejected(reason=fault)
        key = yield from self._key(message["SigningCertURL"], now)
        if key is None:
            return Rejected(reason="there is no certificate of Amazon SNS where the message says")
        if not _is_signed(message, key):
            return Rejected(reason="the signature is wrong")
        if message["Type"] == "SubscriptionConfirmation":
            return (yield from self._confirmed(message["SubscribeURL"]))
        return self._read(message)

    def _fault(self, message: Any, now: datetime) -> str | None:
        if not isinstance(message, Mapping):
            return "the body is no message of Amazon SNS; raw message delivery is not signed"
        kind = message.get("Type")
        if kind not in ("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"):
            return "the message is of an unknown type"
        needed = {*(_NOTIFICATION if kind == "Notification" else _CONFIRMATION), "Signature", "SigningCertURL"}
        needed = (needed | {"SignatureVersion"}) - {"Subject", "Message"}
        complete = all(isinstance(message.get(name), str) and message[name] for name in needed)
        if (
            not complete
            or not isinstance(message.get("Message"), str)
            or not isinstance(message.get("Subject", ""), str)
        ):
            return "the message lacks what Amazon SNS sends"
        if message["TopicArn"] not in self._record.topics:
            return "the message is of a topic that is not expected"
        if message["SignatureVersion"] not in self._record.versions:
            return "the message is signed in a version that is not allowed"
        if not _is_pinned(message["SigningCertURL"], _CERTIFICATE_PATH):
            return "the certificate's URL is not one of Amazon SNS"
        if kind != "Notification" and not _is_pinned(message["SubscribeURL"], re.compile("/")):
            return "the confirmation's URL is not one of Amazon SNS"
        sent_at = _time(message["Timestamp"])
        if sent_at is None:
            return "the timestamp is not one in ISO 8601"
        if abs(now - sent_at) > timedelta(seconds=self._record.tolerance):
            return "the timestamp is outside the tolerance"
        return None if reading.usable(message["MessageId"]) else "the message's id is not an id"

    def _key(self, url: str, now: datetime) -> Generator[FlowStep, Any, rsa.RSAPublicKey | None]:
        """The key of the certificate at ``url``, which is fetched once a day."""
        kept = self._kept.get(url)
        if kept is not None and kept.since <= now <= kept.until:
            return kept.key
        response: HttpResponse = yield _get(url)
        if response.status == 429 or response.status >= 500:
            raise ProviderUnavailable(
                f"Amazon SNS does not give its certificate (status {response.status}).",
                upstream_status=response.status,
            )
        found = _read_certificate(response.body, now) if response.status == 200 else None
        self._kept[url] = found or _Kept(None, now, now + _PAUSE)
        self._kept.move_to_end(url)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return found.key if found is not None else None

    def _confirmed(self, url: str) -> Generator[FlowStep, Any, Verdict]:
        if not self._record.confirm:
            return Rejected(reason="the record says that subscriptions are confirmed elsewhere")
        response: HttpResponse = yield _get(url)
        if response.status == 429 or response.status >= 500:
            raise ProviderUnavailable(
                f"Amazon SNS does not take the confirmation (status {response.status}).",
                upstream_status=response.status,
            )
        if response.status != 200:
            return Rejected(reason=f"Amazon SNS refused the confirmation (status {response.status})")
        return Challenge(body=b"")

    def _read(self, message: Mapping[str, Any]) -> Verified:
        record, text = self._record, message["Message"]
        data = reading.read_json(text) if record.event_field or record.resource_field else None
        event = "sns.unsubscribed" if message["Type"] == "UnsubscribeConfirmation" else "sns.notification"
        if record.event_field is not None and message["Type"] == "Notification":
            named = reading.find(data, record.event_field, integers=False)
            event = reading.usable(named, reading.MOST_EVENT) or "unknown"
        return Verified(
            delivery_id=message["MessageId"],
            event=event,
            timestamp=_time(message["Timestamp"]),
            resource=reading.usable(reading.find(data, record.resource_field)) if record.resource_field else "",
            body=text.encode("utf-8", "surrogatepass"),
        )


def _get(url: str) -> HttpRequest:
    return HttpRequest("GET", url, (("Accept", "*/*"), USER_AGENT), timeout=_TIMEOUT, max_body=_MOST_BYTES)


def _is_pinned(url: str, path: re.Pattern[str]) -> bool:
    """Whether the URL is one of Amazon SNS, over HTTPS at its own port."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        plain = parts.scheme == "https" and not parts.fragment and path.fullmatch(parts.path) is not None
    except ValueError:
        return False
    return plain and _HOST.fullmatch(parts.netloc) is not None


def _is_signed(message: Mapping[str, Any], key: rsa.RSAPublicKey) -> bool:
    names = _NOTIFICATION if message["Type"] == "Notification" else _CONFIRMATION
    lines = [f"{name}\n{message[name]}\n" for name in names if name in message]
    try:
        signature = b64decode(message["Signature"], validate=True)
        signed = "".join(lines).encode("utf-8")
        key.verify(signature, signed, padding.PKCS1v15(), _HASHES[message["SignatureVersion"]]())
    except (ValueError, InvalidSignature):
        return False
    return True


def _read_certificate(pem: bytes, now: datetime) -> _Kept | None:
    """The key of a certificate that is issued to Amazon SNS and valid now."""
    try:
        found = x509.load_pem_x509_certificate(pem)
        key, since, until = found.public_key(), found.not_valid_before_utc, found.not_valid_after_utc
        names = [str(one.value) for one in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except Exception:  # whatever the answer makes the parser raise
        return None
    named = len(names) == 1 and (names[0] == "sns.amazonaws.com" or _HOST.fullmatch(names[0]) is not None)
    if not named or not since <= now <= until or not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        return None
    return _Kept(key, since, min(until, now + _LONGEST))


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo is not None and 1970 <= found.year <= 9998 else None
