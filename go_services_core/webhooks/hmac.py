"""One HMAC scheme (RFC 2104) whose record states each vendor's variant."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any

from ..http import InboundRequest
from ..protocols import FlowStep, Verdict
from ..secret import SecretStr
from ..webhook_specs import HmacWebhook
from . import reading
from .signed import SignedDelivery


class HmacVerifier:
    """Checks deliveries as an :class:`HmacWebhook` record says."""

    def __init__(self, record: HmacWebhook) -> None:
        self._record = record
        self._delivery = SignedDelivery(record)
        self._digest = getattr(hashlib, record.algorithm)

    def channel(self, request: InboundRequest) -> str | None:
        """The channel that the delivery claims to come on."""
        return reading.channel_of(self._record, request)

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """Compare, in constant time, every listed signature under every live secret."""
        yield from ()
        return self._delivery.verdict(request, secrets, now, self._matches)

    def _matches(self, message: bytes, signatures: Sequence[str], keys: Sequence[bytes]) -> bool:
        expected = [self._encoded(hmac.digest(key, message, self._digest)) for key in keys]
        matched = False
        for signature in signatures:
            given = signature.encode("utf-8", "surrogatepass")
            for right in expected:
                matched |= hmac.compare_digest(given, right)
        return matched

    def _encoded(self, digest: bytes) -> bytes:
        if self._record.encoding == "hex":
            return digest.hex().encode()
        return b64encode(digest) if self._record.encoding == "base64" else urlsafe_b64encode(digest).rstrip(b"=")
