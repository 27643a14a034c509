"""What keeps wrapping keys, and what seals records. Protocols only; each method's docstring is its contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from attrs import field, frozen

from .clock import Clock
from .errors import SecretError
from .model import Binding, KeyRef, Sealed
from .secret import SecretBytes, SecretStr
from .wrapping_keys import KeyInfo, SealedRow


@frozen(kw_only=True)
class DataKey:
    """A fresh data key in clear and wrapped."""

    plaintext: SecretBytes
    wrapped: bytes = field(repr=False)
    key: KeyRef
    stand_in: bool = False
    """Wrapped by a stand-in while the primary did not answer: what it seals must be wrapped anew later."""


@frozen(kw_only=True)
class WrappedKey:
    """A wrapped data key, and what its backend needs to unwrap it."""

    wrapped: bytes = field(repr=False)
    key: KeyRef
    context: bytes


class SecretBackend(Protocol):
    """Keeps wrapping keys: generates, wraps and unwraps data keys of 32 bytes. ``context`` is authenticated.

    One whose keys are in this process may have the attribute ``local = True``: concurrent calls are then not shared.
    """

    id: str

    async def generate(self, context: bytes) -> DataKey:
        """A fresh data key under the primary wrapping key."""
        ...

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        """Wrap a data key under the primary wrapping key."""
        ...

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear.

        Raises:
            KeyNotFound: the wrapping key is not here.
            CannotOpen: wrong context, or changed.
            KeyDisabled, KeyDenied: the wrapping key may not be used.
            BackendUnavailable: the backend does not answer.
        """
        ...

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        """The same data keys under the primary wrapping key, in the same order, each with its context.

        In the place of one that cannot be wrapped anew stands its error: ``unwrap`` says which.

        Raises:
            KeyDisabled, KeyDenied, KeyNotFound: the primary key cannot be used; nothing was wrapped.
            BackendUnavailable: the backend does not answer.
        """
        ...

    async def check(self) -> KeyRef:
        """The primary key's reference, after proving that it works.

        Raises:
            KeyInvalid, KeyNotFound, KeyDisabled, KeyDenied, BackendUnavailable: it does not.
        """
        ...

    async def aclose(self) -> None:
        """Forget keys and close connections; idempotent."""
        ...


@runtime_checkable
class KeyLifecycle(Protocol):
    """What a secret backend may offer besides: its wrapping keys can be looked at and changed by the command.

    What a backend cannot do raises CapabilityUnsupported, with the way to do it in its hint.
    """

    async def keys(self) -> Sequence[KeyInfo]:
        """Its wrapping keys, the primary first.

        Raises:
            KeyDenied, BackendUnavailable: they cannot be told.
        """
        ...

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Make a new key that only unwraps for now, so that every process can know it before one wraps with it."""
        ...

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Make the key ``to``, or the newest, primary; gives the primary key before and after.

        Raises:
            KeyNotFound: there is no such key, or none to change to.
        """
        ...

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        """Let ``key`` be used no more; gives what was done. The caller has made sure that no row needs it.

        Raises:
            KeyNotFound: there is no such key.
            Conflict: it is the primary key.
        """
        ...


@frozen(kw_only=True)
class GoEnvelope:
    """A decoded envelope of the Go system (``services.secret.v1:``); nothing of it is authenticated yet."""

    key_id: str
    key_version: int
    algorithm: str
    """``aes-256-gcm``, ``kms`` or ``vault``."""
    nonce: bytes = b""
    ciphertext: bytes = field(repr=False)
    metadata: Mapping[str, str] = field(factory=dict)
    prefixed: bool = True
    """False for the older form, which has no prefix and perhaps no key id (empty) or version (0)."""


@runtime_checkable
class GoEnvelopeReader(Protocol):
    """What a secret backend may offer besides: it reads what the Go system sealed. It never writes it."""

    async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
        """The plaintext.

        Raises:
            KeyNotFound: the key, its version or the algorithm is not one that this backend was given for this.
            CannotOpen: it does not open, or is of a form that is not switched on.
            KeyDisabled, KeyDenied, BackendUnavailable: as ``SecretBackend.unwrap``.
        """
        ...


class Sealer(Protocol):
    """Seals records: the envelope over a backend's data keys."""

    async def seal(self, plaintext: bytes, binding: Binding) -> Sealed:
        """The ciphertext of ``plaintext``, which opens only under the same binding."""
        ...

    async def open(self, sealed: Sealed, binding: Binding) -> SecretBytes:
        """The plaintext.

        A value without a backend in its key reference was adopted from the Go system and is read in its format; one
        with a backend never is.

        Raises:
            CannotOpen: another binding, another key, or a changed byte.
            KeyNotFound, KeyDisabled, KeyDenied, BackendUnavailable: the key cannot be had.
        """
        ...

    async def rewrap(self, rows: Sequence[SealedRow]) -> Sequence[Sealed | SecretError]:
        """The same payloads, their data keys under the backend's primary key, in the same order. No payload is opened.

        In the place of one that cannot be wrapped anew stands its error.

        Raises:
            KeyDisabled, KeyDenied, KeyNotFound, BackendUnavailable: as ``SecretBackend.rewrap``; nothing was wrapped.
        """
        ...

    def forget(self) -> None:
        """Drop every data key; the next use asks the backend again."""
        ...


class BundleCipher(Protocol):
    """Encrypts records for a file, as a whole: none can be read, left out, exchanged or moved without the key.

    ``key`` is a key in the text form of the plugin, or a passphrase. Both methods block, for a passphrase long.
    """

    def seal(self, records: Iterable[bytes], key: SecretStr) -> bytes:
        """The bundle.

        Raises:
            KeyInvalid: the key is damaged, or the passphrase weak.
        """
        ...

    def open(self, bundle: bytes, key: SecretStr) -> list[SecretBytes]:
        """All records, in their order; nothing where anything is wrong.

        Raises:
            BundleInvalid: it is no bundle, or of a newer release.
            BundleKeyWrong, BundleTruncated, BundleReordered, BundleChanged: the key does not fit, or what it says.
            KeyInvalid: as ``seal``.
        """
        ...


class SealerFactory(Protocol):
    """Makes the sealer for one backend and one database."""

    def __call__(
        self,
        backend: SecretBackend,
        *,
        store_id: str,
        clock: Clock,
        on_stand_in: Callable[[KeyRef], Awaitable[None]] | None = None,
    ) -> Sealer:
        """``on_stand_in`` is awaited before anything is sealed with a data key that a stand-in wrapped."""
        ...
