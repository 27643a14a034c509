"""What a data key becomes: an encryption key and a commitment to it."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from go_services_core.errors import CannotOpen, KeyInvalid
from go_services_core.secret import SecretBytes

from .format import COMMITMENT, NONCE

ENCRYPT: Final = b"go-services/envelope/2/encrypt"
COMMIT: Final = b"go-services/envelope/2/commit"


class DataKeyCipher:
    """Encrypts and decrypts payloads under one data key.

    AES-256-GCM alone does not commit to its key: a ciphertext can be built that opens under two. The commitment, which
    only this data key derives, stands in the payload and is compared before anything is decrypted.
    """

    __slots__ = ("_commitment", "_gcm")

    def __init__(self, data_key: SecretBytes) -> None:
        """Derive both with HKDF-SHA256 (RFC 5869), without salt, under labels of their own.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
        """
        raw = data_key.reveal()
        if len(raw) != 32:
            raise KeyInvalid(f"A data key has 32 bytes, not {len(raw)}.")
        self._gcm = AESGCM(HKDF(SHA256(), 32, None, ENCRYPT).derive(raw))
        self._commitment = HKDF(SHA256(), COMMITMENT, None, COMMIT).derive(raw)

    def encrypt(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        """The payload section: nonce, commitment, ciphertext and tag."""
        return nonce + self._commitment + self._gcm.encrypt(nonce, plaintext, associated_data)

    def decrypt(self, payload: bytes, associated_data: bytes) -> bytes:
        """The plaintext of a payload section.

        Raises:
            CannotOpen: another key, other associated data, or a changed byte.
        """
        start = NONCE + COMMITMENT
        if not hmac.compare_digest(payload[NONCE:start], self._commitment):
            raise CannotOpen
        try:
            return self._gcm.decrypt(payload[:NONCE], payload[start:], associated_data)
        except InvalidTag:
            raise CannotOpen from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied out of the process")
