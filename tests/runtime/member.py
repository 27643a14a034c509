"""A secret backend in memory that a test can switch off, as a plugin."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core import hookimpl
from go_services_core.errors import BackendUnavailable, CannotOpen, KeyNotFound, SecretError
from go_services_core.model import KeyRef
from go_services_core.refs import Ref
from go_services_core.sealing import DataKey, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.specs import SecretBackendSpec


class Member:
    """The backend ``remote``: one key, and a switch for its network. Its keys outlive a runtime, as a server's do."""

    id = "remote"

    def __init__(self) -> None:
        self.key = KeyRef("remote", "remote-key", 1)
        self.away = False
        self.fails_with: type[SecretError] = BackendUnavailable
        self.calls = 0
        self._material = os.urandom(32)

    async def generate(self, context: bytes) -> DataKey:
        return await self.wrap(SecretBytes(os.urandom(32)), context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        nonce = os.urandom(12)
        wrapped = nonce + self._cipher(self.key).encrypt(nonce, plaintext.reveal(), context)
        return DataKey(plaintext=plaintext, wrapped=wrapped, key=self.key)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        try:
            return SecretBytes(self._cipher(key).decrypt(wrapped[:12], wrapped[12:], context))
        except InvalidTag:
            raise CannotOpen from None

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        done: list[WrappedKey | SecretError] = []
        for old in keys:
            made = await self.wrap(await self.unwrap(old.wrapped, old.key, old.context), old.context)
            done.append(WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context))
        return done

    async def check(self) -> KeyRef:
        self._cipher(self.key)
        return self.key

    async def aclose(self) -> None:
        """Nothing to do."""

    def _cipher(self, key: KeyRef) -> AESGCM:
        self.calls += 1
        if self.away:
            raise self.fails_with("The network of the secret backend 'remote' is away.")
        if key.backend != "remote":
            raise KeyNotFound(f"The secret backend 'remote' has no key {key.key_id}.")
        return AESGCM(hashlib.sha256(self._material + key.key_id.encode()).digest())


ENVELOPE: Any = Ref("go_services_envelope:Sealer")


class Remote:
    """The plugin."""

    GS_CONTRACT = 1

    def __init__(self) -> None:
        self.member = Member()

    @hookimpl
    def gs_secret_backends(self) -> list[SecretBackendSpec]:
        made: Any = lambda settings, env: self.member  # noqa: E731
        return [SecretBackendSpec(id="remote", factory=Made(made), sealer=ENVELOPE)]


class Made:
    """A reference to an object that is there already."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def resolve(self) -> Any:
        return self._made
