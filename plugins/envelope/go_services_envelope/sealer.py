"""Seals records under data keys of a secret backend (protocols: envelope v2)."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Sequence
from os import urandom
from typing import Final, NoReturn, TypeAlias

from cryptography.exceptions import InvalidTag

from go_services_core.clock import Clock
from go_services_core.errors import BadInput, CannotOpen, KeyInvalid, SecretError
from go_services_core.model import Binding, KeyRef, Sealed
from go_services_core.sealing import SecretBackend, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import SealedRow

from .cache import KeyCache
from .format import (
    MAX_PLAINTEXT,
    NONCE,
    Wrapping,
    head_size,
    located,
    pack_head,
    place,
    unpack_head,
)
from .go_envelope import cannot_rewrap, open_adopted
from .keys import KnownKey

MAX_USES: Final = 1 << 20
"""Encryptions per data key: with random nonces of 96 bits, the chance that one repeats stays below 2**-56."""
MAX_AGE: Final = 300.0
"""Seconds that a data key is used or remembered."""
MAX_KEYS: Final = 8192
"""Data keys remembered, generated or unwrapped."""
STAND_IN_AGE: Final = 30.0
"""Seconds that a data key seals which a stand-in wrapped: the primary may be back by then."""

_Head: TypeAlias = tuple[bytes, KeyRef]

# The __init__ of a frozen attrs class takes as long as AES over 1 KiB; these are the same writes without it.
_new_sealed: Final = object.__new__
_set_ciphertext: Final = Sealed.ciphertext.__set__  # type: ignore[attr-defined]
_set_key: Final = Sealed.key.__set__  # type: ignore[attr-defined]


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
        on_stand_in: Callable[[KeyRef], Awaitable[None]] | None = None,
        max_uses: int = MAX_USES,
        max_age: float = MAX_AGE,
        max_keys: int = MAX_KEYS,
    ) -> None:
        """Seal for one database.

        Args:
            backend: keeps the wrapping keys.
            store_id: identity of the database; a row copied to another one does not open there.
            clock: only ``monotonic`` is asked.
            on_stand_in: awaited before anything is sealed with a data key that a stand-in wrapped.
            max_uses: encryptions per data key, at most 2**20.
            max_age: seconds that a data key is used or remembered, at most 300.
            max_keys: data keys remembered, generated or unwrapped.

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
        self._now = clock.monotonic
        self._on_stand_in = on_stand_in
        self._max_uses = max_uses
        self._max_age = max_age
        self._max_keys = max_keys
        self._local = getattr(backend, "local", False)
        self.forget()
        _live.add(self)

    async def seal(self, plaintext: bytes, binding: Binding) -> Sealed:
        """The envelope of ``plaintext`` (at most 32 MiB), which opens only under an equal binding.

        Raises:
            BadInput: the plaintext or the binding is outside the format's limits.
            KeyInvalid, KeyNotFound, BackendUnavailable: the backend gives no data key.
        """
        try:
            if len(plaintext) > MAX_PLAINTEXT:
                raise BadInput(f"A sealed value has at most {MAX_PLAINTEXT} bytes, not {len(plaintext)}.")
            scope, keys = binding.scope, self._keys
            context, bound = located(
                self._store_id,
                binding.purpose,
                binding.provider_id,
                binding.record_id,
                binding.record_version,
                scope and scope.type,
                scope and scope.id,
            )
            key = keys.latest(context)
            if key is None or not key.left or self._now() >= key.seals_until:
                key = await self._sealing_key(context)
            elif keys.crowded:
                keys.touch(key.head)
            key.left -= 1
            nonce = urandom(NONCE)  # one at a time: a block of them would repeat in a process that was copied
            envelope = b"".join((key.head, nonce, key.commitment, key.gcm.encrypt(nonce, plaintext, bound)))
            sealed = _new_sealed(Sealed)
            _set_ciphertext(sealed, envelope)
            _set_key(sealed, key.ref)
            return sealed
        except BaseException:
            del plaintext  # or a traceback with locals shows it
            raise

    async def open(self, sealed: Sealed, binding: Binding) -> SecretBytes:
        """The plaintext.

        A value without a backend in its key reference was adopted from the Go system and is read in its format; one
        with a backend never is.

        Raises:
            CannotOpen: another binding, another key, or a changed byte; the error does not say which.
            KeyNotFound, KeyDisabled, KeyDenied, BackendUnavailable: the key cannot be had.
            BadInput: the binding is outside the format's limits.
        """
        named = sealed.key
        if not named.backend:
            return await open_adopted(self._backend, sealed, binding)
        scope, keys = binding.scope, self._keys
        context, bound = located(
            self._store_id,
            binding.purpose,
            binding.provider_id,
            binding.record_id,
            binding.record_version,
            scope and scope.type,
            scope and scope.id,
        )
        envelope = sealed.ciphertext
        try:
            key = keys.latest(context)
            if key is None or not envelope.startswith(key.head):
                key = keys.find(envelope[: head_size(envelope)])
            if key is None or key.context != context or self._now() >= key.until:
                key = await self._opening_key(context, envelope, named)
            elif keys.crowded:
                keys.touch(key.head)
            start, committed, end, longest = key.layout
            if (
                # The commitment stands in clear in every envelope of this data key: the time this takes tells nothing.
                envelope.startswith(key.commitment, committed)
                and (key.ref is named or key.ref == named)
                and len(envelope) <= longest
            ):
                return SecretBytes(key.gcm.decrypt(envelope[start:committed], envelope[end:], bound))
            raise CannotOpen
        except (CannotOpen, InvalidTag):
            raise _cannot_open(binding.purpose, binding.record_id, named) from None

    async def rewrap(self, rows: Sequence[SealedRow]) -> list[Sealed | SecretError]:
        """The same payloads, their data keys wrapped by the backend's primary key. No payload is opened.

        Rows that share a data key keep sharing it: the backend wraps it once.

        Returns:
            One for each row; CannotOpen where the envelope is damaged or belongs to another provider, scope or store,
            SecretError where it is the Go system's, or the backend's error.

        Raises:
            KeyNotFound, KeyInvalid, KeyDisabled, KeyDenied, BackendUnavailable: the backend cannot wrap at all.
            SecretError: the backend did not answer each.
        """
        asked = [self._wrapped(row) for row in rows]
        keys = list(dict.fromkeys(key for key in asked if isinstance(key, WrappedKey)))
        answers = await self._backend.rewrap(keys) if keys else ()
        if len(answers) != len(keys):
            raise SecretError(
                f"The secret backend {self._backend.id!r} was asked to rewrap {len(keys)} data keys "
                f"and answered {len(answers)}: nothing was rewrapped."
            )
        made = dict(zip(keys, map(self._rewrapped, answers), strict=True))
        return [
            _moved(row, made[key] if isinstance(key, WrappedKey) else key) for row, key in zip(rows, asked, strict=True)
        ]

    def forget(self) -> None:
        """Drop every data key; the next use asks the backend again."""
        self._keys = KeyCache(size=self._max_keys)

    async def _sealing_key(self, context: bytes) -> KnownKey:
        if self._local:
            return await self._generate(context)
        while True:
            key = await self._keys.share(context, lambda: self._generate(context))
            if key.left:
                return key

    async def _generate(self, context: bytes) -> KnownKey:
        keys = self._keys  # another, if it is to forget before the backend answers
        now = self._now()
        made = await self._backend.generate(context)
        if made.stand_in and self._on_stand_in is not None:
            await self._on_stand_in(made.key)
        head, until = self._head(made.key, made.wrapped), now + self._max_age
        seals_until = min(until, now + STAND_IN_AGE) if made.stand_in else until
        key = KnownKey(
            made.plaintext, made.key, head, context, until=until, seals_until=seals_until, left=self._max_uses
        )
        keys.put(key, now=now)
        return key

    async def _opening_key(self, context: bytes, envelope: bytes, expected: KeyRef) -> KnownKey:
        head = envelope[: head_size(envelope)]
        wrapping = _unpack(head, expected)
        if self._local:
            return await self._unwrap(context, head, wrapping)
        return await self._keys.share((context, head), lambda: self._unwrap(context, head, wrapping))

    async def _unwrap(self, context: bytes, head: bytes, wrapping: Wrapping) -> KnownKey:
        keys = self._keys
        now = self._now()
        data_key = await self._backend.unwrap(wrapping.wrapped, wrapping.key, context)
        try:
            key = KnownKey(data_key, wrapping.key, head, context, until=now + self._max_age)
        except KeyInvalid:
            raise CannotOpen from None
        keys.put(key, now=now)
        return key

    def _wrapped(self, row: SealedRow) -> WrappedKey | SecretError:
        """The data key of a row, or why it has none that could be wrapped anew."""
        sealed = row.sealed
        if not sealed.key.backend:
            return cannot_rewrap(row)
        try:
            context = place(self._store_id, "", row.provider_id, row.scope).context
            wrapping = _unpack(sealed.ciphertext[: head_size(sealed.ciphertext)], sealed.key)
        except (BadInput, CannotOpen):
            return _cannot_open(row.kind, row.record_id, sealed.key)
        return WrappedKey(wrapped=wrapping.wrapped, key=wrapping.key, context=context)

    def _rewrapped(self, answer: WrappedKey | SecretError) -> _Head | SecretError:
        if isinstance(answer, SecretError):
            return answer
        try:
            return self._head(answer.key, answer.wrapped), answer.key
        except KeyInvalid as error:
            return error

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


def _unpack(head: bytes, expected: KeyRef) -> Wrapping:
    """The decoded wrapping section, provided that it names the key that the row names."""
    try:
        wrapping = unpack_head(head)
    except ValueError:
        raise CannotOpen from None
    if wrapping.key != expected:
        raise CannotOpen
    return wrapping


def _moved(row: SealedRow, new: _Head | SecretError) -> Sealed | SecretError:
    """The payload of a row behind another head."""
    if isinstance(new, CannotOpen):
        return _cannot_open(row.kind, row.record_id, row.sealed.key)
    if isinstance(new, SecretError):
        return new
    head, ref = new
    envelope = row.sealed.ciphertext
    return Sealed(head + envelope[head_size(envelope) :], ref)


def _cannot_open(what: str, record_id: str, key: KeyRef) -> CannotOpen:
    return CannotOpen(
        f"The {what} of record {record_id} does not open with key {key.key_id!r} of {key.backend!r}: "
        "wrong key, moved from another record, or changed.",
        metadata={"purpose": what, "record_id": record_id, "key_id": key.key_id},
    )


_live: weakref.WeakSet[Sealer] = weakref.WeakSet()


def _forget_all() -> None:
    for sealer in tuple(_live):
        sealer.forget()


if hasattr(os, "register_at_fork"):
    # A data key belongs to the process that generated it, and a flight to the loop of the parent.
    os.register_at_fork(after_in_child=_forget_all)
