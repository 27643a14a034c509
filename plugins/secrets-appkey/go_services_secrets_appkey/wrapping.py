"""What an application key becomes: a key that wraps data keys, and a fingerprint to know it by."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from go_services_core.errors import CannotOpen, KeyInvalid
from go_services_core.model import KeyRef
from go_services_core.secret import SecretBytes

WRAP: Final = b"go-services/appkey/1/wrap"
FINGERPRINT: Final = b"go-services/appkey/1/id"
_NONCE: Final = 12
_WRAPPED: Final = _NONCE + 32 + 16


class WrappingKey:
    """Wraps data keys with AES-256-GCM under a key that HKDF-SHA256 (RFC 5869) derives from an application key.

    A wrapped data key is nonce (12), ciphertext (32) and tag (16). Its associated data are the key reference and the
    context. With random nonces, one key wraps at most 2**32 data keys (NIST SP 800-38D §8.3).
    """

    __slots__ = ("_gcm", "fingerprint")

    def __init__(self, key: SecretBytes) -> None:
        """Derive from the 32 bytes of an application key.

        Raises:
            KeyInvalid: the key does not have 32 bytes.
        """
        if len(key.reveal()) != 32:
            raise KeyInvalid(f"An application key has 32 bytes, not {len(key.reveal())}.", plugin="secrets-appkey")
        self._gcm = AESGCM(_derive(key, WRAP, 32))
        self.fingerprint = _derive(key, FINGERPRINT, 4).hex()
        """8 hexadecimal digits that follow from the key; they tell nothing about it."""

    @property
    def key_id(self) -> str:
        """The id of a key that was given no other: ``app-key-`` and the fingerprint."""
        return f"app-key-{self.fingerprint}"

    def wrap(self, data_key: SecretBytes, ref: KeyRef, context: bytes) -> bytes:
        """A data key under this key, bound to ``ref`` and ``context``.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
        """
        if len(data_key.reveal()) != 32:
            raise KeyInvalid("A data key has 32 bytes.", plugin="secrets-appkey")
        nonce = os.urandom(_NONCE)
        return nonce + self._gcm.encrypt(nonce, data_key.reveal(), _associated_data(ref, context))

    def unwrap(self, wrapped: bytes, ref: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear.

        Raises:
            CannotOpen: another key, reference or context, or a changed byte.
        """
        if len(wrapped) != _WRAPPED:
            raise CannotOpen
        try:
            return SecretBytes(self._gcm.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], _associated_data(ref, context)))
        except InvalidTag:
            raise CannotOpen from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key cannot be pickled or copied out of the process")


def _derive(key: SecretBytes, label: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, None, label).derive(key.reveal())


def _associated_data(key: KeyRef, context: bytes) -> bytes:
    return _sized_key(key.backend, key.key_id, key.key_version) + len(context).to_bytes(4, "big") + context


@lru_cache(maxsize=64)
def _sized_key(backend: str, key_id: str, key_version: int) -> bytes:
    parts = (backend.encode(), key_id.encode(), key_version.to_bytes(4, "big"))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
