"""Members that can be switched off: they wrap for real, until they are told not to answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import go_services_secrets_appkey.plugin as appkey
from go_services_core.clock import SystemClock
from go_services_core.errors import CannotOpen, Conflict, KeyNotFound, SecretError
from go_services_core.model import KeyRef, Observation
from go_services_core.protocols import PluginEnv
from go_services_core.sealing import DataKey, GoEnvelope, SecretBackend, WrappedKey
from go_services_core.secret import SecretBytes, SecretStr
from go_services_core.wrapping_keys import KeyInfo
from go_services_secrets_appkey.key import generate_key
from go_services_secrets_failover.backend import FailoverBackend, open_backend
from go_services_secrets_failover.settings import FailoverSettings

CONTEXT = bytes(range(32))


class Switch:
    """What happens to every call of a member: it is counted, held back, answered with an error, or let through."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def __call__(self, name: str) -> None:
        self.calls.append(name)
        self.arrived.set()
        await asyncio.sleep(0)  # as a backend on the network gives others their turn
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error


class Local:
    """Wraps under AES-256-GCM keys of its own; ``rotate`` is real, and so is ``open_go`` for its algorithm."""

    def __init__(self, id: str, *, go_algorithm: str = "") -> None:
        self.id = id
        self.switch = Switch()
        self.go_algorithm = go_algorithm
        self.go_key = os.urandom(32)
        self.held: dict[KeyRef, AESGCM] = {}
        self.closed = 0
        self.primary = self._new()

    def _new(self) -> KeyRef:
        key = KeyRef(self.id, f"{self.id}-key", len(self.held) + 1)
        self.held[key] = AESGCM(os.urandom(32))
        return key

    async def generate(self, context: bytes) -> DataKey:
        await self.switch("generate")
        return self._wrap(SecretBytes(os.urandom(32)), context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        await self.switch("wrap")
        return self._wrap(plaintext, context)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        await self.switch("unwrap")
        return self._unwrap(wrapped, key, context)

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        await self.switch("rewrap")
        done: list[WrappedKey | SecretError] = []
        for old in keys:
            try:
                made = self._wrap(self._unwrap(old.wrapped, old.key, old.context), old.context)
            except SecretError as error:
                done.append(error)
            else:
                done.append(WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context))
        return done

    async def check(self) -> KeyRef:
        await self.switch("check")
        return self.primary

    async def aclose(self) -> None:
        self.closed += 1

    async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
        if envelope.algorithm != self.go_algorithm:
            raise KeyNotFound(f"{self.id} does not read {envelope.algorithm}")
        await self.switch("open_go")
        try:
            return SecretBytes(AESGCM(self.go_key).decrypt(envelope.nonce, envelope.ciphertext, None))
        except InvalidTag:
            raise CannotOpen from None

    async def keys(self) -> Sequence[KeyInfo]:
        await self.switch("keys")
        rest = [KeyInfo(key=key, state="decrypt-only") for key in self.held if key != self.primary]
        return [KeyInfo(key=self.primary, state="primary", detail="in memory", warnings=("only a test",)), *rest]

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        await self.switch("add_key")
        return KeyInfo(key=self._new(), state="decrypt-only")

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        await self.switch("rotate")
        before, self.primary = self.primary, list(self.held)[-1]
        return before, self.primary

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        await self.switch("retire")
        if key == self.primary:
            raise Conflict("it is the primary key")
        del self.held[key]
        return f"removed {key.key_version}"

    def _wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        nonce = os.urandom(12)
        wrapped = nonce + self.held[self.primary].encrypt(nonce, plaintext.reveal(), _bound(self.primary, context))
        return DataKey(plaintext=plaintext, wrapped=wrapped, key=self.primary)

    def _unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        if key not in self.held:
            raise KeyNotFound(f"there is no key {key.key_id}")
        if len(wrapped) != 60:
            raise CannotOpen
        try:
            return SecretBytes(self.held[key].decrypt(wrapped[:12], wrapped[12:], _bound(key, context)))
        except InvalidTag:
            raise CannotOpen from None


def _bound(key: KeyRef, context: bytes) -> bytes:
    return f"{key.backend} {key.key_id} {key.key_version} ".encode() + context


class Switched:
    """A backend behind a switch: data keys only, as a backend without anything besides has them."""

    def __init__(self, backend: SecretBackend) -> None:
        self.id = backend.id
        self.backend = backend
        self.switch = Switch()

    async def generate(self, context: bytes) -> DataKey:
        await self.switch("generate")
        return await self.backend.generate(context)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        await self.switch("wrap")
        return await self.backend.wrap(plaintext, context)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        await self.switch("unwrap")
        return await self.backend.unwrap(wrapped, key, context)

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        await self.switch("rewrap")
        return await self.backend.rewrap(keys)

    async def check(self) -> KeyRef:
        await self.switch("check")
        return await self.backend.check()

    async def aclose(self) -> None:
        await self.backend.aclose()


def environment(members: dict[str, Any], *, clock: Any = None, observe: Any = None) -> PluginEnv:
    return PluginEnv(
        clock=clock or SystemClock(),
        logger=logging.getLogger("test"),
        resolve_secret=SecretStr,
        secret_backend=members.__getitem__,
        observe=observe or (lambda _: None),
    )


def app_key() -> SecretBackend:
    """The real backend ``appkey`` with a fresh key."""
    (spec,) = appkey.gs_secret_backends()
    settings = spec.settings.resolve()(key=generate_key())
    return spec.factory.resolve()(settings, environment({}))


class Pair:
    """A failover backend over a primary ``near`` and the fallback ``far``, or over members that are given."""

    def __init__(
        self, clock: Any = None, *, primary: Any = None, fallback: Any = None, observe: Any = None, **settings: Any
    ) -> None:
        self.primary = primary or Local("near")
        self.fallback = fallback or Local("far")
        self.told: list[Observation] = []
        members = {self.primary.id: self.primary, self.fallback.id: self.fallback}
        self.backend: FailoverBackend = open_backend(
            FailoverSettings(primary=self.primary.id, fallback=self.fallback.id, **settings),
            environment(members, clock=clock, observe=observe or self.told.append),
        )

    @staticmethod
    def alone(member: Any, **settings: Any) -> FailoverBackend:
        """The backend without a fallback."""
        return open_backend(FailoverSettings(primary=member.id, **settings), environment({member.id: member}))

    def outcomes(self) -> list[str]:
        return [seen.detail["outcome"] for seen in self.told]
