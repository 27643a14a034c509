"""The secret backend ``appkey``: data keys wrapped with AES-256-GCM under keys from the settings."""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from go_services_core.errors import BackendUnavailable, CannotOpen, ConfigError, KeyInvalid, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.protocols import DataKey, PluginEnv
from go_services_core.secret import SecretBytes

from .key import REMEDY, parse_key
from .settings import AppKeySettings

BACKEND: Final = "appkey"
KEY_VERSION: Final = 1
"""Version of the derivation and of the wrapped form; another key is another key id, never another version."""
WRAP: Final = b"go-services/appkey/1/wrap"
KEY_ID: Final = b"go-services/appkey/1/id"
_NONCE: Final = 12
_WRAPPED: Final = _NONCE + 32 + 16


def open_backend(settings: AppKeySettings, env: PluginEnv) -> AppKeyBackend:
    """The backend over the keys of ``[secrets.appkey]``.

    Raises:
        ConfigError: there is no key.
        KeyInvalid: a key cannot be used; the message names its setting.
    """
    if settings.key is None:
        raise ConfigError(
            "The secret backend 'appkey' needs secrets.appkey.key, a reference such as env:GO_SERVICES_KEY.",
            hint=REMEDY,
            plugin="secrets-appkey",
            field="secrets.appkey.key",
        )
    return AppKeyBackend(
        parse_key(settings.key, field="secrets.appkey.key"),
        decrypt_only=[
            parse_key(text, field=f"secrets.appkey.decrypt_only[{index}]")
            for index, text in enumerate(settings.decrypt_only)
        ],
    )


class AppKeyBackend:
    """Wraps data keys under application keys of 32 bytes.

    A key's id is made from the key, so that a wrong one is recognised by name. From each key HKDF-SHA256 derives the
    AES-256-GCM key that wraps; a wrapped data key is nonce (12), ciphertext (32) and tag (16), and its associated data
    are the key reference and the context. With random nonces, one key wraps at most 2**32 data keys (NIST SP 800-38D
    §8.3).
    """

    id = BACKEND

    def __init__(self, key: SecretBytes, *, decrypt_only: Sequence[SecretBytes] = ()) -> None:
        """``key`` wraps and unwraps, those in ``decrypt_only`` only unwrap.

        Raises:
            KeyInvalid: a key does not have 32 bytes.
        """
        self._primary = _reference(key)
        self._wrappers = {_reference(known): _wrapper(known) for known in (key, *decrypt_only)}

    async def generate(self, context: bytes) -> DataKey:
        """A fresh data key under the primary key."""
        return await self.wrap(SecretBytes(os.urandom(32)), context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        """Wrap a data key under the primary key.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
            BackendUnavailable: the backend is closed.
        """
        if len(plaintext.reveal()) != 32:
            raise KeyInvalid("A data key has 32 bytes.", plugin="secrets-appkey")
        nonce = os.urandom(_NONCE)
        bound = _associated_data(self._primary, context)
        wrapped = nonce + self._wrapper(self._primary).encrypt(nonce, plaintext.reveal(), bound)
        return DataKey(plaintext=plaintext, wrapped=wrapped, key=self._primary)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear.

        Raises:
            KeyNotFound: ``key`` is none of the keys here; the message names it and them.
            CannotOpen: wrong context, or changed.
            BackendUnavailable: the backend is closed.
        """
        wrapper = self._wrapper(key)
        if len(wrapped) != _WRAPPED:
            raise CannotOpen
        try:
            opened = wrapper.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], _associated_data(key, context))
        except InvalidTag:
            raise CannotOpen from None
        return SecretBytes(opened)

    async def rewrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> tuple[bytes, KeyRef]:
        """The same data key under the primary key.

        Raises:
            KeyNotFound, CannotOpen, BackendUnavailable: as ``unwrap``.
        """
        made = await self.wrap(await self.unwrap(wrapped, key, context), context)
        return made.wrapped, made.key

    async def check(self) -> KeyRef:
        """The primary key's reference, after a data key went through it and came back.

        Raises:
            KeyInvalid: it came back different.
            BackendUnavailable: the backend is closed.
        """
        made = await self.generate(b"check")
        opened = await self.unwrap(made.wrapped, made.key, b"check")
        if not hmac.compare_digest(opened.reveal(), made.plaintext.reveal()):
            raise KeyInvalid(f"The key {made.key.key_id} does not give back what it wrapped.", plugin="secrets-appkey")
        return made.key

    async def aclose(self) -> None:
        """Forget the keys; idempotent."""
        self._wrappers = {}

    def _wrapper(self, key: KeyRef) -> AESGCM:
        if not self._wrappers:
            raise BackendUnavailable("The secret backend 'appkey' is closed.", plugin="secrets-appkey")
        wrapper = self._wrappers.get(key)
        if wrapper is None:
            here = ", ".join(sorted(known.key_id for known in self._wrappers))
            raise KeyNotFound(
                f"This was sealed under key {key.key_id} (version {key.key_version}) of {key.backend!r}, "
                f"but secrets.appkey holds {here}.",
                hint="Put the key back as secrets.appkey.key, or add it to secrets.appkey.decrypt_only.",
                plugin="secrets-appkey",
                field="secrets.appkey.key",
            )
        return wrapper

    def __repr__(self) -> str:
        return f"AppKeyBackend({self._primary.key_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret backend holds keys and cannot be pickled or copied")


def _reference(key: SecretBytes) -> KeyRef:
    return KeyRef(BACKEND, f"app-key-{_derive(key, KEY_ID, 4).hex()}", KEY_VERSION)


def _wrapper(key: SecretBytes) -> AESGCM:
    return AESGCM(_derive(key, WRAP, 32))


def _derive(key: SecretBytes, label: bytes, size: int) -> bytes:
    raw = key.reveal()
    if len(raw) != 32:
        raise KeyInvalid(f"An application key has 32 bytes, not {len(raw)}.", plugin="secrets-appkey")
    return HKDF(SHA256(), size, None, label).derive(raw)


def _associated_data(key: KeyRef, context: bytes) -> bytes:
    parts = (key.backend.encode(), key.key_id.encode(), key.key_version.to_bytes(4, "big"), context)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
