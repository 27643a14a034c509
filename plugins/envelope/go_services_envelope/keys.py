"""What a data key becomes: an encryption key and a commitment to it."""

from __future__ import annotations

import hashlib
from typing import Final, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core.errors import KeyInvalid
from go_services_core.secret import SecretBytes

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


class DataKeyCipher:
    """What seals and opens payloads under one data key.

    AES-256-GCM alone does not commit to its key: a ciphertext can be built that opens under two. The commitment, which
    only this data key derives, stands in the payload and is compared before anything is decrypted.
    """

    __slots__ = ("commitment", "decrypt", "encrypt")

    def __init__(self, data_key: SecretBytes) -> None:
        """Derive both from the data key, under labels of their own.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
        """
        size = len(data_key.reveal())
        if size != 32:
            raise KeyInvalid(f"A data key has 32 bytes, not {size}.")
        key, self.commitment = derive(data_key, ENCRYPT, COMMIT)
        gcm = AESGCM(key)
        self.encrypt = gcm.encrypt
        """Of nonce, plaintext and associated data; as ``decrypt`` it has no frame that a traceback could show."""
        self.decrypt = gcm.decrypt

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied out of the process")
