"""Frozen records of wrapping keys, of what is sealed under them, and of their change."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from .model import KeyRef, Scope, Sealed

KeyState = Literal["primary", "decrypt-only", "retired", "disabled", "pending-deletion"]
SealedKind = Literal["credential", "attempt", "inbox", "idempotency", "subscription", "intent", "endpoint"]


@frozen(kw_only=True)
class KeyInfo:
    """One wrapping key of a backend, as operators see it."""

    key: KeyRef
    state: KeyState
    detail: str = ""
    """Where it comes from, in a few words; no secret."""
    warnings: tuple[str, ...] = ()
    """What will need attention, such as a window that ends soon."""


@frozen(kw_only=True)
class KeyUse:
    """How many rows of one kind need a wrapping key."""

    kind: SealedKind
    key: KeyRef
    rows: int


@frozen(kw_only=True)
class KeyStatus:
    """The wrapping keys of a backend and what needs them."""

    backend: str
    primary: KeyRef | None
    """None where it does not work now; ``problem`` says why."""
    problem: str = ""
    keys: tuple[KeyInfo, ...] = ()
    """Empty where the backend does not tell them."""
    check: KeyRef | None = None
    """The key of the constant by which a start recognises the database's key; None where it was not looked at."""
    uses: tuple[KeyUse, ...] = ()
    """An empty backend is that of values adopted from the Go system."""
    unreadable: tuple[str, ...] = ()
    """Ids of connections whose credential cannot be opened, the first hundred."""
    warnings: tuple[str, ...] = ()
    """What needs attention now or soon, with the remedy; no secret."""


@frozen(kw_only=True)
class Unreadable:
    """A sealed value that cannot be opened, or whose data key cannot be wrapped anew."""

    kind: SealedKind
    id: str
    """Primary key of its row."""
    connection_id: str | None
    key: KeyRef
    error: str


@frozen(kw_only=True)
class RotatedKind:
    """What a change of keys did to the rows of one kind; in a dry run, what it would do."""

    kind: SealedKind
    done: int = 0
    """Under the primary key now."""
    unchanged: int = 0
    """Were so before."""
    left_alone: int = 0
    """Changed or destroyed by somebody else meanwhile."""
    adopted: int = 0
    """In the format of the Go system, which only ``reencrypt`` changes."""
    unreadable: int = 0
    verified: int = 0
    """Opened in the end."""


@frozen(kw_only=True)
class RotationReport:
    """How a ``rewrap`` or ``reencrypt`` ended."""

    action: Literal["rewrap", "reencrypt"]
    key: KeyRef
    """The primary key."""
    dry_run: bool = False
    kinds: tuple[RotatedKind, ...] = ()
    remaining: int = 0
    """Rows under other keys in the end, besides those adopted or unreadable: written meanwhile by a process that does
    not use the primary key yet. In a dry run 0."""
    unreadable: tuple[Unreadable, ...] = ()
    """The first hundred."""

    @property
    def complete(self) -> bool:
        """Whether every row that could be read is under the primary key, in today's format."""
        return not self.remaining and not any(kind.adopted or kind.unreadable for kind in self.kinds)


@frozen(kw_only=True)
class SealedRow:
    """One sealed value of the database, with what it is bound to."""

    kind: SealedKind
    id: str
    """Primary key of its row."""
    provider_id: str
    scope: Scope | None
    record_id: str
    """What its binding names: the connection for a credential and for what an intent keeps, else the row itself."""
    record_version: int = 1
    connection_id: str | None = None
    sealed: Sealed
    payload_format: str = ""
    """Set for a credential, as is its version."""
    payload_version: int = 1


@frozen(kw_only=True)
class Resealed:
    """What takes the place of a sealed value, if that is still what ``row`` says."""

    row: SealedRow
    sealed: Sealed
    payload_format: str = ""
    """Of a credential; as it was when empty."""
    payload_version: int = 1
