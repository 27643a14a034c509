"""What a signature in a header is over, and which signatures are listed, as a :class:`SignedWebhook` record says."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import field, frozen

from ..http import InboundRequest
from ..protocols import FlowStep, Rejected, Verdict
from ..secret import SecretStr
from ..webhook_specs import SignedWebhook
from . import reading

_PARTS: Final = ("id", "timestamp", "body", "method", "target", "path", "url", "form")
_MOST_SIGNATURES: Final = 64
"""More than that in one header are not looked at: each costs a comparison under every live secret."""


@frozen(kw_only=True)
class _Signed:
    sent_at: datetime | None
    message: bytes = field(repr=False)
    signatures: tuple[str, ...] = field(repr=False)
    """Encoded, without the prefix."""


class SignedVerifier(ABC):
    """Checks everything about a signed delivery but the signature itself, which ``_matches`` of a subclass compares."""

    def __init__(self, record: SignedWebhook) -> None:
        _check(record)
        self._record = record

    def channel(self, request: InboundRequest) -> str | None:
        """The channel that the delivery claims to come on."""
        return reading.channel_of(self._record, request)

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """The verdict; nothing is parsed before a signature fitted."""
        yield from ()
        return self._verdict(request, secrets, now)

    @abstractmethod
    def _matches(self, message: bytes, signatures: Sequence[str], keys: Sequence[bytes]) -> bool:
        """Whether one of the encoded signatures over the message is right under one of the keys."""

    def _verdict(self, request: InboundRequest, secrets: Sequence[SecretStr], now: datetime) -> Verdict:
        record = self._record
        shake = reading.asked(record, request, secrets)
        if shake is not None:
            return shake
        live = reading.keys_of(record, secrets)
        if not live:
            return Rejected(reason="no webhook secret is configured")
        found = self._signed(request, now)
        if isinstance(found, Rejected):
            return found
        keys = [key for key in map(self._key, live) if key]
        if not keys:
            return Rejected(reason=f"no webhook secret is a key in {record.key} form")
        if not self._matches(found.message, found.signatures, keys):
            return Rejected(reason="no signature matches")
        return reading.read(record, request, now=now, secrets=secrets, timestamp=found.sent_at)

    def _signed(self, request: InboundRequest, now: datetime) -> _Signed | Rejected:
        record = self._record
        delivery_id = ""
        if record.id_header is not None:
            found = reading.header_id(record, request)
            if isinstance(found, Rejected):
                return found
            delivery_id = found
            if "id" in record.signed and record.joiner in delivery_id:
                return Rejected(reason=f"the header {record.id_header} holds the joiner of the signed parts")
        stamp, sent_at = "", None
        listed = request.header(record.signature_header)
        if record.timestamp_header is not None:
            stamp = (request.header(record.timestamp_header) or "").strip()
            place = f"the header {record.timestamp_header}"
            if not stamp:
                return Rejected(reason=f"{place} is missing")
        elif record.timestamp_field is not None:
            place = f"{record.timestamp_field} of the header {record.signature_header}"
            stamps = self._named(listed or "", record.timestamp_field)
            if len(stamps) != 1:
                return Rejected(reason=f"{place} is missing or occurs twice")
            stamp = stamps[0]
        else:
            place = ""
        if place:
            sent_at = _time(stamp, record.timestamp_unit)
            if sent_at is None:
                return Rejected(reason=f"{place} is not a time in {_UNITS[record.timestamp_unit]}")
            if abs(now - sent_at) > timedelta(seconds=record.tolerance):
                return Rejected(reason="the timestamp is outside the tolerance")
        if not listed:
            return Rejected(reason=f"the header {record.signature_header} is missing")
        parts = []
        for name in record.signed:
            part = self._part(name, request, delivery_id, stamp)
            if isinstance(part, Rejected):
                return part
            parts.append(part)
        message = record.joiner.encode().join(parts)
        return _Signed(sent_at=sent_at, message=message, signatures=self._signatures(listed))

    def _part(self, name: str, request: InboundRequest, delivery_id: str, stamp: str) -> bytes | Rejected:
        record = self._record
        if name == "body":
            return request.body
        if name == "form":
            return self._form(request)
        if name.startswith("header:"):
            value = request.header(name.removeprefix("header:"))
            if value is None:
                return Rejected(reason=f"the header {name.removeprefix('header:')} is missing")
            if record.joiner in value:
                return Rejected(reason=f"the {name.replace(':', ' ')} holds the joiner of the signed parts")
            return value.encode("utf-8", "surrogatepass")
        if name.startswith("text:"):
            return name.removeprefix("text:").encode("utf-8")
        return self._text(name, request, delivery_id, stamp).encode("utf-8", "surrogatepass")

    def _text(self, name: str, request: InboundRequest, delivery_id: str, stamp: str) -> str:
        if name == "id":
            return delivery_id
        if name == "timestamp":
            return stamp
        if name == "method":
            return request.method
        if name == "target":
            return request.target
        if name == "path":
            return request.target.partition("?")[0]
        return self._record.public_url.rstrip("/") + request.target

    def _form(self, request: InboundRequest) -> bytes | Rejected:
        """The parameters as https://www.twilio.com/docs/usage/security has them; equal pairs are signed once."""
        record = self._record
        if record.body_digest_param is not None:
            query = reading.parameters(reading.query_of(request.target))
            digests = [value for name, value in query or () if name == record.body_digest_param]
            if digests:
                right = hashlib.sha256(request.body).hexdigest()
                if len(digests) == 1 and reading.same(digests[0].lower(), right):
                    return b""
                return Rejected(reason=f"the parameter {record.body_digest_param} is not the body's digest")
        if not request.body:
            return b""
        pairs = reading.form_of(request) if reading.is_form(request) else None
        if pairs is None:
            return Rejected(reason="the body is no form that can be read, and nothing else covers it")
        return "".join(name + value for name, value in sorted(set(pairs))).encode("utf-8", "surrogatepass")

    def _signatures(self, listed: str) -> tuple[str, ...]:
        record = self._record
        if record.signature_field is not None:
            entries = self._named(listed, record.signature_field)
        else:
            entries = listed.split() if record.separator == " " else _entries(listed, record.separator)
        given = [one.removeprefix(record.prefix) for one in entries if one.startswith(record.prefix)]
        return tuple(given[:_MOST_SIGNATURES])

    def _named(self, listed: str, name: str) -> list[str]:
        pairs = [one.partition("=") for one in _entries(listed, self._record.separator)]
        return [value.strip() for key, equals, value in pairs if equals and key.strip() == name]

    def _key(self, secret: SecretStr) -> bytes:
        """The key's bytes; none where the secret is no key."""
        text = secret.reveal().removeprefix(self._record.key_prefix)
        try:
            if self._record.key == "text":
                return text.encode("utf-8")
            return bytes.fromhex(text) if self._record.key == "hex" else b64decode(text, validate=True)
        except (ValueError, NotBase64):
            return b""


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {"seconds": "Unix seconds", "milliseconds": "Unix milliseconds", "iso8601": "ISO 8601 with a zone"}


def _entries(listed: str, separator: str) -> list[str]:
    return [one.strip() for one in listed.split(separator) if one.strip()]


def _time(stamp: str, unit: str) -> datetime | None:
    if unit == "iso8601":
        try:
            found = datetime.fromisoformat(stamp)
        except ValueError:
            return None
        return found.astimezone(UTC) if found.tzinfo is not None and 1970 <= found.year <= 9998 else None
    digits = 11 if unit == "seconds" else 14
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > digits:
        return None
    return _EPOCH + (timedelta(seconds=int(stamp)) if unit == "seconds" else timedelta(milliseconds=int(stamp)))


def _check(record: SignedWebhook) -> None:
    """Refuse a record that cannot protect."""
    name = type(record).__name__
    reading.check_fields(record)
    if not record.tolerance > 0 or not math.isfinite(record.tolerance):
        raise ValueError(f"{name}.tolerance must be a positive number of seconds")
    if not record.signature_header:
        raise ValueError(f"{name}.signature_header is needed")
    for part in record.signed:
        kind, colon, rest = part.partition(":")
        if part not in _PARTS and not (colon and rest and kind in ("header", "text")):
            raise ValueError(f"{name}.signed has {part!r}; there are {', '.join(_PARTS)}, header:NAME and text:LITERAL")
    if "body" not in record.signed and "form" not in record.signed:
        raise ValueError(f"{name}.signed must cover the body")
    if "timestamp" in record.signed and record.timestamp_header is None and record.timestamp_field is None:
        raise ValueError(f"{name}.timestamp_header is needed when the timestamp is signed")
    if "id" in record.signed and record.id_header is None:
        raise ValueError(f"{name}.id_header is needed when the id is signed")
    if "id" in record.signed and not record.joiner:
        raise ValueError(f"{name}.joiner is needed when the id is signed, or the parts run into each other")
    if any(part.startswith("header:") for part in record.signed) and not record.joiner:
        raise ValueError(f"{name}.joiner is needed when a header is signed, or the parts run into each other")
    if "url" in record.signed and not record.public_url.startswith(("https://", "http://")):
        raise ValueError(f"{name}.public_url is needed when the URL is signed: what a proxy changed cannot be guessed")
    if (record.signature_field or record.timestamp_field) and record.separator == " ":
        raise ValueError(f"{name}.separator is needed between the pairs of the signature's header")
