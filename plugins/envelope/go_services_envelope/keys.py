"""What a data key becomes in memory: an encryption key and a commitment to it."""

from __future__ import annotations

import hashlib
from typing import Final, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core.errors import KeyInvalid
from go_services_core.model import KeyRef
from go_services_core.secret import SecretBytes

from .format import COMMITMENT, MAX_PAYLOAD, NONCE

ENCRYPT: Final = b"go-services/envelope/2/encrypt"
COMMIT: Final = b"go-services/envelope/2/commit"
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_EXTRACT_INNER: Final = hashlib.sha256(bytes(64).translate(_INNER))
_EXTRACT_OUTER: Final = hashlib.sha256(bytes(64).translate(_OUTER))
"""HMAC's two hashes (RFC 2104 §2) once they took in the salt of zeros, which RFC 5869 §2.2 has for no salt."""


def derive(key: SecretBytes, *labels: bytes) -> list[bytes]:
    """HKDF-SHA256 (RFC 5869) without salt: 32 bytes for each label, at most 31 bytes long.

    A data key that seals one record is derived from as often as it encrypts; written out over SHA-256 this takes half
    the time of one HKDF object for each label.
    """
    inner, outer = _EXTRACT_INNER.copy(), _EXTRACT_OUTER.copy()
    inner.update(key.reveal())
    outer.update(inner.digest())
    block = outer.digest().ljust(64, b"\0")
    inside, outside = block.translate(_INNER), block.translate(_OUTER)
    sha256 = hashlib.sha256
    return [sha256(outside + sha256(inside + label + b"\x01").digest()).digest() for label in labels]


class KnownKey:
    """What seals and opens payloads under one data key, and how long.

    AES-256-GCM alone does not commit to its key: a ciphertext can be built that opens under two. The commitment, which
    only this data key derives, stands in the payload and is compared before anything is decrypted.
    """

    __slots__ = ("__weakref__", "commitment", "context", "gcm", "head", "layout", "left", "ref", "seals_until", "until")

    def __init__(
        self,
        data_key: SecretBytes,
        ref: KeyRef,
        head: bytes,
        context: bytes,
        *,
        until: float,
        seals_until: float = 0,
        left: int = 0,
    ) -> None:
        """Derive encryption key and commitment from the data key, under labels of their own.

        Args:
            data_key: in clear.
            ref: what wrapped it.
            head: what stands before the payload of its envelopes.
            context: what it was wrapped for.
            until: monotonic time from which on it is used no more.
            seals_until: monotonic time from which on it only opens.
            left: encryptions that it may do; none for a key that was unwrapped.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
        """
        size = len(data_key.reveal())
        if size != 32:
            raise KeyInvalid(f"A data key has 32 bytes, not {size}.")
        key, self.commitment = derive(data_key, ENCRYPT, COMMIT)
        self.gcm = AESGCM(key)  # its methods have no frame that a traceback could show
        self.ref = ref
        self.head = head
        start = len(head)
        self.layout = start, start + NONCE, start + NONCE + COMMITMENT, start + MAX_PAYLOAD
        """Where nonce, commitment and ciphertext begin, and how long the envelope may be."""
        self.context = context
        self.until = until
        self.seals_until = seals_until
        self.left = left

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied out of the process")
