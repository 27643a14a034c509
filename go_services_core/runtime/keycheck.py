"""Whether the configured key is the database's: a sealed constant that the first start keeps and later ones open."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..errors import BackendUnavailable, CannotOpen, KeyInvalid, KeyNotFound, SecretError
from ..model import Binding, KeyRef, Sealed
from ..wrapping_keys import SealedRow
from . import bindings

if TYPE_CHECKING:
    from ..protocols import Store
    from ..sealing import Sealer
    from ..secret import SecretBytes

_NAME: Final = "key_check"
_CONSTANT: Final = b"go_services key check"


async def prove(store: Store, sealer: Sealer) -> KeyRef | None:
    """The key of the database's constant, after opening it; None where it cannot be opened now, but a stand-in seals.

    What a stand-in seals is marked by its key, and wrapped anew by the backend whose key the constant proves.

    Raises:
        KeyInvalid: the configured key is another one; nothing was changed.
        BackendUnavailable, KeyDisabled, KeyDenied: the backend cannot be asked; nothing was changed.
    """
    mine, _, kept = await _kept(store, sealer)
    try:
        opened = await sealer.open(kept, bindings.KEY_CHECK)
    except BackendUnavailable:
        if mine.key.backend == kept.key.backend:
            raise
        return None
    except (CannotOpen, KeyNotFound) as error:
        raise KeyInvalid(
            f"This database is sealed with key {kept.key.key_id} of backend {kept.key.backend}; the configured key is "
            f"{mine.key.key_id} of {mine.key.backend}.",
            hint="Configure the key that the database was begun with. Nothing was changed.",
        ) from error
    if opened.reveal() != _CONSTANT:
        raise KeyInvalid("The database's key check does not open to what it should.")
    return kept.key


async def renew(store: Store, sealer: Sealer, primary: KeyRef) -> None:
    """Seal the constant under the primary key, unless it is. Of several processes one does it."""
    mine, raw, kept = await _kept(store, sealer)
    if kept.key != primary and mine.key == primary:
        await store.exchange(_NAME, before=raw, after=_dump(mine))


async def key_of(store: Store, sealer: Sealer) -> KeyRef:
    """The key of the constant, without opening it."""
    return (await _kept(store, sealer))[2].key


class CheckedSealer:
    """A sealer that lets nothing through before the key is known to be the database's.

    What fails is asked again at the next use, so that a runtime that was opened without its backend recovers by itself.
    """

    def __init__(self, sealer: Sealer, store: Store) -> None:
        self._sealer = sealer
        self._store = store
        self._proved = False
        self._proving = asyncio.Lock()

    async def prove(self) -> None:
        """Make the check now, unless it was passed.

        Raises:
            KeyInvalid: the key is not the database's; nothing was changed.
            BackendUnavailable, KeyDisabled, KeyDenied: the backend cannot be asked.
        """
        async with self._proving:
            if not self._proved:
                self._proved = await prove(self._store, self._sealer) is not None

    async def seal(self, plaintext: bytes, binding: Binding) -> Sealed:
        """See ``Sealer.seal``; raises KeyInvalid besides."""
        try:
            if not self._proved:
                await self.prove()
            return await self._sealer.seal(plaintext, binding)
        except BaseException:
            del plaintext  # or a traceback with locals shows it
            raise

    async def open(self, sealed: Sealed, binding: Binding) -> SecretBytes:
        """See ``Sealer.open``; raises KeyInvalid besides."""
        if not self._proved:
            await self.prove()
        return await self._sealer.open(sealed, binding)

    async def rewrap(self, rows: Sequence[SealedRow]) -> Sequence[Sealed | SecretError]:
        """See ``Sealer.rewrap``; raises KeyInvalid besides."""
        if not self._proved:
            await self.prove()
        return await self._sealer.rewrap(rows)

    def forget(self) -> None:
        """See ``Sealer.forget``."""
        self._sealer.forget()


async def _kept(store: Store, sealer: Sealer) -> tuple[Sealed, bytes, Sealed]:
    """The constant sealed now, and what the database keeps: its bytes and what they hold. The first one is kept."""
    mine = await sealer.seal(_CONSTANT, bindings.KEY_CHECK)
    raw = await store.remember(_NAME, _dump(mine))
    fields = json.loads(raw)
    key = KeyRef(fields["backend"], fields["key_id"], fields["key_version"])
    return mine, raw, Sealed(b64decode(fields["ciphertext"]), key)


def _dump(sealed: Sealed) -> bytes:
    fields = {
        "backend": sealed.key.backend,
        "key_id": sealed.key.key_id,
        "key_version": sealed.key.key_version,
        "ciphertext": b64encode(sealed.ciphertext).decode(),
    }
    return json.dumps(fields).encode()
