"""What can be read of a PEM certificate without a cryptographic library: how long it is valid (RFC 7468, RFC 5280)."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18


@frozen
class Validity:
    """The period of a certificate, both ends included."""

    not_before: datetime
    not_after: datetime


def read_validity(pem: str) -> Validity:
    """The validity of the first certificate of ``pem`` (RFC 5280 §4.1.2.5). Nothing else of it is checked.

    Raises:
        ValueError: there is none, or it cannot be read; the message has nothing of it.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no PEM certificate")
    try:
        return _validity(b64decode(found[1]))
    except (ValueError, IndexError):
        raise ValueError("the certificate cannot be read") from None


def _validity(der: bytes) -> Validity:
    """``Certificate`` → ``TBSCertificate`` → version, serial number, signature, issuer, validity (RFC 5280 §4.1)."""
    certificate, _ = _value(der, _SEQUENCE)
    rest, _ = _value(certificate, _SEQUENCE)
    if rest[0] == _VERSION:
        _, rest = _value(rest)
    for _ in ("serialNumber", "signature", "issuer"):
        _, rest = _value(rest)
    period, _ = _value(rest, _SEQUENCE)
    start, end = _value(period)
    stop, _ = _value(end)
    return Validity(_time(period[0], start), _time(end[0], stop))


def _value(data: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first DER value, and what follows it."""
    if tag is not None and data[0] != tag:
        raise ValueError("another type was expected")
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if start + size > len(data):
        raise ValueError("the value is cut short")
    return data[start : start + size], data[start + size :]


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("a time was expected")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
