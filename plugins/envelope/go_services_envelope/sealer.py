"""Seals records under data keys of a secret backend (protocols: envelope v2)."""

from __future__ import annotations

import os
import weakref
from typing import Final, NoReturn

from go_services_core.clock import Clock
from go_services_core.errors import BadInput, CannotOpen, KeyInvalid
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.protocols import SecretBackend
from go_services_core.secret import SecretBytes

from .cache import KeyCache
from .format import (
    MAX_PLAINTEXT,
    NONCE,
    Wrapping,
    associated_data,
    pack_head,
    place,
    split,
    unpack_head,
)
from .keys import DataKeyCipher

MAX_USES: Final = 1 << 20
"""Encryptions per data key: with random nonces of 96 bits, the chance that one repeats stays below 2**-56."""
MAX_AGE: Final = 300.0
"""Seconds that a data key is used or remembered."""
MAX_KEYS: Final = 4096
"""Data keys remembered, for sealing and for opening each."""


class _SealingKey:
    """A data key that this process generated, with the number of uses it has left."""

    __slots__ = ("cipher", "head", "left", "ref")

    def __init__(self, ref: KeyRef, head: bytes, cipher: DataKeyCipher, left: int) -> None:
        self.ref = ref
        self.head = head
        self.cipher = cipher
        self.left = left


class Sealer:
    """The envelope over a backend's data keys. It belongs to one event loop.

    A data key serves one scope of one provider. A process seals only with data keys that it generated, each for at most
    2**20 records and 5 minutes; data keys that it had unwrapped only open. Nonces come from the operating system, never
    from ``clock.random``: two processes with the same seed would repeat them.
    """

    def __init__(
        self,
        backend: SecretBackend,
        *,
        store_id: str,
        clock: Clock,
        max_uses: int = MAX_USES,
        max_age: float = MAX_AGE,
        max_keys: int = MAX_KEYS,
    ) -> None:
        """Seal for one database.

        Args:
            backend: keeps the wrapping keys.
            store_id: identity of the database; a row copied to another one does not open there.
            clock: only ``monotonic`` is asked.
            max_uses: encryptions per data key, at most 2**20.
            max_age: seconds that a data key is used or remembered, at most 300.
            max_keys: data keys remembered, for sealing and for opening each.

        Raises:
            BadInput: the store id is empty or too long, or a limit is out of its range.
        """
        if not store_id:
            raise BadInput("A sealer needs the identity of its store.", field="store_id")
        if not (1 <= max_uses <= MAX_USES and 0 < max_age <= MAX_AGE and max_keys >= 1):
            raise BadInput(
                f"A data key serves 1 to {MAX_USES} records, up to {MAX_AGE:.0f} seconds; at least one is remembered."
            )
        place(store_id, "", "", None)
        self._backend = backend
        self._store_id = store_id
        self._clock = clock
        self._max_uses = max_uses
        self._max_age = max_age
        self._max_keys = max_keys
        self.forget()
        _live.add(self)

    async def seal(self, plaintext: bytes, binding: Binding) -> Sealed:
        """The envelope of ``plaintext`` (at most 32 MiB), which opens only under an equal binding.

        Raises:
            BadInput: the plaintext or the binding is outside the format's limits.
            KeyInvalid, KeyNotFound, BackendUnavailable: the backend gives no data key.
        """
        if len(plaintext) > MAX_PLAINTEXT:
            raise BadInput(f"A sealed value has at most {MAX_PLAINTEXT} bytes, not {len(plaintext)}.")
        at = place(self._store_id, binding.purpose, binding.provider_id, binding.scope)
        bound = associated_data(at, binding)
        key = self._sealing.get(at.context)
        while key is None or key.left == 0:
            key = await self._sealing.load(at.context, lambda: self._generate(at.context))
        key.left -= 1
        return Sealed(key.head + key.cipher.encrypt(os.urandom(NONCE), plaintext, bound), key.ref)

    async def open(self, sealed: Sealed, binding: Binding) -> SecretBytes:
        """The plaintext.

        Raises:
            CannotOpen: another binding, another key, or a changed byte; the error does not say which.
            KeyNotFound, BackendUnavailable: the key cannot be had.
            BadInput: the binding is outside the format's limits.
        """
        at = place(self._store_id, binding.purpose, binding.provider_id, binding.scope)
        bound = associated_data(at, binding)
        try:
            head, payload = _split(sealed.ciphertext)
            found = self._opening.get((at.context, head))
            if found is None:
                wrapping = _unpack(head, sealed.key)
                found = await self._opening.load((at.context, head), lambda: self._unwrap(at.context, wrapping))
            ref, cipher = found
            if ref == sealed.key:
                return SecretBytes(cipher.decrypt(payload, bound))
            raise CannotOpen
        except CannotOpen:
            raise CannotOpen(
                f"The {binding.purpose} of record {binding.record_id} does not open with key {sealed.key.key_id!r} "
                f"of {sealed.key.backend!r}: wrong key, moved from another record, or changed.",
                metadata={"purpose": binding.purpose, "record_id": binding.record_id, "key_id": sealed.key.key_id},
            ) from None

    async def rewrap(self, sealed: Sealed, *, provider_id: str, scope: Scope | None) -> Sealed:
        """The same payload, its data key wrapped by the backend's primary key. The plaintext is not opened.

        Raises:
            CannotOpen: the envelope is damaged, or belongs to another provider, scope or store.
            KeyNotFound, KeyInvalid, BackendUnavailable: the backend cannot rewrap it.
        """
        context = place(self._store_id, "", provider_id, scope).context
        head, payload = _split(sealed.ciphertext)
        wrapping = _unpack(head, sealed.key)
        wrapped, ref = await self._backend.rewrap(wrapping.wrapped, wrapping.key, context)
        return Sealed(self._head(ref, wrapped) + payload, ref)

    def forget(self) -> None:
        """Drop every data key; the next use asks the backend again."""
        self._sealing: KeyCache[bytes, _SealingKey] = KeyCache(self._clock, size=self._max_keys, ttl=self._max_age)
        self._opening: KeyCache[tuple[bytes, bytes], tuple[KeyRef, DataKeyCipher]] = KeyCache(
            self._clock, size=self._max_keys, ttl=self._max_age
        )

    async def _generate(self, context: bytes) -> _SealingKey:
        since = self._clock.monotonic()
        made = await self._backend.generate(context)
        cipher = DataKeyCipher(made.plaintext)
        head = self._head(made.key, made.wrapped)
        self._opening.put((context, head), (made.key, cipher), since=since)
        return _SealingKey(made.key, head, cipher, self._max_uses)

    async def _unwrap(self, context: bytes, wrapping: Wrapping) -> tuple[KeyRef, DataKeyCipher]:
        data_key = await self._backend.unwrap(wrapping.wrapped, wrapping.key, context)
        try:
            return wrapping.key, DataKeyCipher(data_key)
        except KeyInvalid:
            raise CannotOpen from None

    def _head(self, ref: KeyRef, wrapped: bytes) -> bytes:
        try:
            return pack_head(ref, wrapped)
        except ValueError:
            raise KeyInvalid(
                f"The secret backend {self._backend.id!r} gave a wrapped key or key reference that an envelope "
                "cannot hold: empty, or too long."
            ) from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealer holds keys and cannot be pickled or copied")


def _split(envelope: bytes) -> tuple[bytes, bytes]:
    try:
        return split(envelope)
    except ValueError:
        raise CannotOpen from None


def _unpack(head: bytes, expected: KeyRef) -> Wrapping:
    """The decoded wrapping section, provided that it names the key that the row names."""
    try:
        wrapping = unpack_head(head)
    except ValueError:
        raise CannotOpen from None
    if wrapping.key != expected:
        raise CannotOpen
    return wrapping


_live: weakref.WeakSet[Sealer] = weakref.WeakSet()


def _forget_all() -> None:
    for sealer in tuple(_live):
        sealer.forget()


if hasattr(os, "register_at_fork"):
    # A data key belongs to the process that generated it, and a flight to the loop of the parent.
    os.register_at_fork(after_in_child=_forget_all)
