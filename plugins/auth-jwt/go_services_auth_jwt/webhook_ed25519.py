"""Deliveries signed with Ed25519 (RFC 8032): Standard Webhooks ``v1a``, Discord, and what else a record states."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64decode
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from go_services_core.webhook_specs import Ed25519Webhook
from go_services_core.webhooks.signed import SignedVerifier

_SIZE: Final = 64
"""Bytes of a signature."""


class Ed25519Verifier(SignedVerifier):
    """Checks deliveries as an :class:`Ed25519Webhook` record says; the secrets are public keys."""

    _record: Ed25519Webhook

    def _matches(self, message: bytes, signatures: Sequence[str], keys: Sequence[bytes]) -> bool:
        # Until one fits: none of this is secret.
        made = [Ed25519PublicKey.from_public_bytes(key) for key in keys if len(key) == 32]
        decoded = [one for one in map(self._decoded, signatures) if len(one) == _SIZE]
        return any(_fits(key, signature, message) for key in made for signature in decoded)

    def _decoded(self, signature: str) -> bytes:
        try:
            if self._record.encoding == "hex":
                return bytes.fromhex(signature)
            if self._record.encoding == "base64":
                return b64decode(signature, validate=True)
            return urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        except ValueError:
            return b""


def _fits(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True
