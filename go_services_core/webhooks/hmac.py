"""One HMAC scheme (RFC 2104) whose record states each vendor's variant."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence

from ..webhook_specs import HmacWebhook
from .signed import SignedVerifier


class HmacVerifier(SignedVerifier):
    """Checks deliveries as an :class:`HmacWebhook` record says: in constant time, under every live secret."""

    _record: HmacWebhook

    def __init__(self, record: HmacWebhook) -> None:
        super().__init__(record)
        self._digest = getattr(hashlib, record.algorithm)

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
