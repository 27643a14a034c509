"""A backend that keeps its keys in memory and counts its calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from go_services_core.errors import BackendUnavailable, CannotOpen, KeyNotFound, SecretError
from go_services_core.model import KeyRef
from go_services_core.sealing import DataKey, WrappedKey
from go_services_core.secret import SecretBytes


class MemoryBackend:
    """Wraps under real AES-256-GCM keys; ``rotate`` adds a primary, ``gate`` holds every answer back."""

    id = "memory"

    def __init__(self) -> None:
        self.keys: dict[KeyRef, AESGCM] = {}
        self.calls: list[str] = []
        self.contexts: list[bytes] = []
        self.generated: list[DataKey] = []
        self.gate: asyncio.Event | None = None
        self.down = False
        self.rotate()

    def rotate(self) -> None:
        self.primary = KeyRef(self.id, "k1", len(self.keys) + 1)
        self.keys[self.primary] = AESGCM(os.urandom(32))

    async def _called(self, name: str, context: bytes) -> None:
        self.calls.append(name)
        self.contexts.append(context)
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise BackendUnavailable("memory is down")

    async def generate(self, context: bytes) -> DataKey:
        await self._called("generate", context)
        made = self._wrap(SecretBytes(os.urandom(32)), context)
        self.generated.append(made)
        return made

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        await self._called("wrap", context)
        return self._wrap(plaintext, context)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        await self._called("unwrap", context)
        return self._unwrap(wrapped, key, context)

    async def rewrap(self, keys: Sequence[WrappedKey]) -> list[WrappedKey | SecretError]:
        await self._called("rewrap", b"".join(old.context for old in keys))
        return [self._rewrap(old) for old in keys]

    def _rewrap(self, old: WrappedKey) -> WrappedKey | SecretError:
        try:
            made = self._wrap(self._unwrap(old.wrapped, old.key, old.context), old.context)
        except SecretError as error:
            return error
        return WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context)

    async def check(self) -> KeyRef:
        return self.primary

    async def aclose(self) -> None:
        self.keys.clear()

    def _wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        nonce = os.urandom(12)
        wrapped = nonce + self.keys[self.primary].encrypt(nonce, plaintext.reveal(), context)
        return DataKey(plaintext=plaintext, wrapped=wrapped, key=self.primary)

    def _unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        if key not in self.keys:
            raise KeyNotFound(f"no key {key.key_id}")
        try:
            return SecretBytes(self.keys[key].decrypt(wrapped[:12], wrapped[12:], context))
        except (InvalidTag, ValueError):
            raise CannotOpen from None


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()
