"""One HMAC scheme (RFC 2104) whose record states each vendor's variant."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from base64 import b64encode
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from typing import Any

from ..auth.identity import pick
from ..http import InboundRequest
from ..protocols import FlowStep, Rejected, Verdict, Verified
from ..secret import SecretStr
from ..specs import HmacWebhook


class HmacVerifier:
    """Checks deliveries as an :class:`HmacWebhook` record says."""

    def __init__(self, record: HmacWebhook) -> None:
        if not record.tolerance > 0 or not math.isfinite(record.tolerance):
            raise ValueError("HmacWebhook.tolerance must be a positive number of seconds")
        if "body" not in record.signed:
            raise ValueError("HmacWebhook.signed must cover the body")
        if "timestamp" in record.signed and record.timestamp_header is None:
            raise ValueError("HmacWebhook.timestamp_header is needed when the timestamp is signed")
        if "id" in record.signed and not record.joiner:
            raise ValueError("HmacWebhook.joiner is needed when the id is signed, or the parts run into each other")
        self._record = record

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """Compare, in constant time, every listed signature under every live secret."""
        yield from ()
        return self._verify(request, secrets, now)

    def _verify(self, request: InboundRequest, secrets: Sequence[SecretStr], now: datetime) -> Verdict:
        record = self._record
        live = [secret for secret in secrets if secret]
        if not live:
            return Rejected(reason="no webhook secret is configured")
        delivery_id = request.header(record.id_header)
        if not delivery_id:
            return Rejected(reason=f"the header {record.id_header} is missing")
        if len(delivery_id) > 255 or not delivery_id.isprintable():
            return Rejected(reason=f"the header {record.id_header} is not an id")
        if "id" in record.signed and record.joiner in delivery_id:
            return Rejected(reason=f"the header {record.id_header} holds the joiner of the signed parts")
        sent_at, stamp = None, ""
        if record.timestamp_header is not None:
            stamp = (request.header(record.timestamp_header) or "").strip()
            if not stamp:
                return Rejected(reason=f"the header {record.timestamp_header} is missing")
            sent_at = _time(stamp)
            if sent_at is None:
                return Rejected(reason=f"the header {record.timestamp_header} is not a time in Unix seconds")
            if abs((now - sent_at).total_seconds()) > record.tolerance:
                return Rejected(reason="the timestamp is outside the tolerance")
        listed = request.header(record.signature_header)
        if not listed:
            return Rejected(reason=f"the header {record.signature_header} is missing")
        parts = {"id": delivery_id.encode(), "timestamp": stamp.encode(), "body": request.body}
        message = record.joiner.encode().join(parts[name] for name in record.signed)
        expected = [self._signature(secret, message) for secret in live]
        matched = False
        for candidate in listed.split():
            if not candidate.startswith(record.prefix):
                continue
            given = candidate[len(record.prefix) :].encode("utf-8", "replace")
            for right in expected:
                matched |= hmac.compare_digest(given, right)
        if not matched:
            return Rejected(reason="no signature matches")
        return Verified(delivery_id=delivery_id, event=self._event(request), timestamp=sent_at)

    def _signature(self, secret: SecretStr, message: bytes) -> bytes:
        digest = hmac.digest(secret.reveal().encode(), message, getattr(hashlib, self._record.algorithm))
        return b64encode(digest) if self._record.encoding == "base64" else digest.hex().encode()

    def _event(self, request: InboundRequest) -> str:
        """The event's name; ``unknown`` when the verified delivery has none."""
        name: Any = None
        if self._record.event_header is not None:
            name = request.header(self._record.event_header)
        elif self._record.event_field is not None:
            try:
                name = pick(json.loads(request.body), self._record.event_field)
            except (ValueError, RecursionError):
                name = None
        return name if isinstance(name, str) and name and len(name) <= 120 and name.isprintable() else "unknown"


def _time(stamp: str) -> datetime | None:
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 11:
        return None
    return datetime.fromtimestamp(int(stamp), UTC)
