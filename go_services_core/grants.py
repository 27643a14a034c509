"""What a connection was asked for and given: records, and how two moments are compared. No I/O.

Grants keep their case, since scopes are case-sensitive (RFC 6749 §3.3). Their order means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from .clock import uuid_after
from .lifecycle import made
from .model import Decision, Event, GrantSnapshot, Scope

if TYPE_CHECKING:
    from .model import SealedCredential

Granted = tuple[str, ...] | None
"""What was granted; None where the provider did not tell."""


@frozen(kw_only=True)
class GrantEvent:
    """One line in the history of a connection's grants."""

    id: str
    connection_id: str
    type: str
    """``expanded``, ``downgraded`` and ``revoked`` say that what is granted changed; ``reconsent_requested`` and
    ``reconsent_completed`` that more was asked for. Rows from before these names have ``granted`` or ``changed``."""
    requested: tuple[str, ...]
    granted: Granted
    added: tuple[str, ...] = ()
    """Of ``reconsent_requested``: what is asked for and not held."""
    removed: tuple[str, ...] = ()
    snapshot_version: int | None = None
    """The snapshot that it belongs to; None where there was none."""
    occurred_at: datetime

    def announced(self, provider_id: str, scope: Scope) -> Event:
        """The durable event that is committed with it: ``grant.<type>``."""
        return made(
            f"grant.{self.type}",
            {
                "requested": list(self.requested),
                "granted": None if self.granted is None else list(self.granted),
                "added": list(self.added),
                "removed": list(self.removed),
                "snapshot_version": self.snapshot_version,
            },
            id=self.id,
            at=self.occurred_at,
            provider_id=provider_id,
            scope=scope,
            connection_id=self.connection_id,
        )


@frozen(kw_only=True)
class GrantReport:
    """What a connection was asked for, what it holds, and what that is enough for."""

    connection_id: str
    version: int
    """Of the newest snapshot; 0 where there is none."""
    requested: tuple[str, ...]
    granted: Granted
    missing: tuple[str, ...]
    """Requested and not held; empty where the provider did not tell."""
    capabilities: tuple[Decision, ...]
    """One for each capability of the provider."""
    captured_at: datetime | None


@frozen(kw_only=True)
class GrantChange:
    """How what is granted changed from one moment to another."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    type: Literal["expanded", "downgraded", "revoked"] | None = None
    """None where nothing changed, or nobody can tell."""


def normalised(grants: Iterable[str]) -> tuple[str, ...]:
    """Without surrounding spaces, blanks and repetitions, in their order and case."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, grants))))


def change(before: Granted, after: Granted) -> GrantChange:
    """What was added and removed. Where ``after`` is not told, nothing is known to have changed.

    Losing one and gaining another is ``downgraded``; ``revoked`` is only the loss of all.
    """
    if after is None:
        return GrantChange()
    had, has = set(before or ()), set(after)
    added, removed = tuple(sorted(has - had)), tuple(sorted(had - has))
    if removed:
        return GrantChange(added=added, removed=removed, type="downgraded" if has else "revoked")
    return GrantChange(added=added, type="expanded" if added else None)


def recorded(
    newest: GrantSnapshot | None, credential: SealedCredential, *, cause: Event, completes: bool = False
) -> tuple[GrantSnapshot | None, list[GrantEvent]]:
    """The snapshot and the events that a new credential makes; no snapshot where nothing differs from ``newest``.

    Args:
        newest: the connection's newest snapshot.
        credential: says what was requested and granted.
        cause: the event that is committed with the credential. Ids follow its own, so that a unit that runs again makes
            the same rows.
        completes: whether the credential comes from a consent that was asked for again.
    """
    requested = normalised(credential.requested)
    granted = None if credential.granted is None else normalised(credential.granted)
    changed = change(newest.granted if newest is not None else None, granted)
    snapshot = None
    if newest is None or _as_sets(newest.requested, newest.granted) != _as_sets(requested, granted):
        snapshot = GrantSnapshot(
            connection_id=credential.connection_id,
            version=newest.version + 1 if newest is not None else 1,
            requested=requested,
            granted=granted,
            captured_at=credential.created_at,
        )
    current = snapshot or newest
    types = [changed.type] if changed.type is not None else []
    events = [
        GrantEvent(
            id=uuid_after(cause.id, steps),
            connection_id=credential.connection_id,
            type=type,
            requested=requested,
            granted=granted,
            added=changed.added,
            removed=changed.removed,
            snapshot_version=current.version if current is not None else None,
            occurred_at=cause.occurred_at,
        )
        for steps, type in enumerate([*types, *(["reconsent_completed"] if completes else [])], start=1)
    ]
    return snapshot, events


def _as_sets(requested: tuple[str, ...], granted: Granted) -> tuple[frozenset[str], frozenset[str] | None]:
    return frozenset(requested), None if granted is None else frozenset(granted)


def needs_reconsent(events: Iterable[GrantEvent], *, cause: Event) -> Event | None:
    """The event of a connection that a renewal has left without any grant; None where it still has some."""
    for lost in events:
        if lost.type == "revoked":
            return made(
                "connection.needs_reconsent",
                {"reason": ALL_TAKEN_BACK},
                id=uuid_after(lost.id, 1),
                at=cause.occurred_at,
                provider_id=cause.provider_id,
                scope=cause.scope,
                connection_id=lost.connection_id,
            )
    return None


ALL_TAKEN_BACK = "the provider took back everything that it had granted"
