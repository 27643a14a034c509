"""Refreshes of the memory store: leases, intents, and tokens that came too late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from ..errors import BadInput, InvalidTransition, LeaseLost, ReauthRequired, RefreshLocked, VersionConflict
from ..grants import ALL_TAKEN_BACK, needs_reconsent
from ..model import Event, SealedCredential
from ..refreshes import AbandonedRefresh, LateToken, Lease, RefreshHistory, RefreshOpen
from ..states import RENEWED, may_become
from .memory_tables import Hold, Intent, Tables


def not_empty(credential: SealedCredential) -> None:
    if not credential.sealed.ciphertext:
        raise BadInput("A credential needs a ciphertext; this one is empty.", field="credential.sealed")


def break_refresh(tables: Tables, connection_id: str) -> None:
    """Take the lease from its holder, and destroy the tokens that came too late."""
    resource = f"refresh:{connection_id}"
    hold = tables.holds.get(resource)
    for intent in _intents(tables, resource):
        intent.late = None
        if hold is not None and hold.owner is not None and intent.fence == hold.fence:
            _settle(tables, intent, "broken")
    if hold is not None:
        hold.owner = hold.expires_at = None


def _intents(tables: Tables, resource: str) -> list[Intent]:
    return [intent for intent in tables.intents.values() if intent.resource == resource]


def _settle(tables: Tables, intent: Intent, outcome: str, error: str = "") -> None:
    if intent.settled_at is None:
        intent.outcome, intent.error, intent.settled_at = outcome, error, tables.clock.now()


class Refreshes:
    """The part of the ``connections`` facet that is about refreshes."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def open_refresh(self, connection_id: str, *, owner: str, lease: float, intent_id: str | None) -> RefreshOpen:
        tables = self._tables
        resource, now = f"refresh:{connection_id}", tables.clock.now()
        hold = tables.holds.get(resource)
        if hold is not None and hold.owner is not None and hold.expires_at is not None and hold.expires_at > now:
            left = (hold.expires_at - now).total_seconds()
            raise RefreshLocked(metadata={"connection_id": connection_id, "retry_in": left})
        connection, credential = tables.connection(connection_id), tables.credential(connection_id)
        if connection.status != "active" or credential is None:
            raise ReauthRequired(metadata={"connection_id": connection_id, "status": connection.status})
        fence = (hold.fence if hold is not None else 0) + 1
        earlier = [
            intent
            for intent in _intents(tables, resource)
            if intent.settled_at is None and intent.version == credential.version
        ]
        abandoned = None
        if earlier and intent_id is not None:
            oldest = min(earlier, key=lambda intent: intent.fence)
            abandoned = AbandonedRefresh(intent_id=oldest.id, age=self._since(oldest.sent_at))
        tables.holds[resource] = Hold(owner, fence, tables.later(lease))
        if intent_id is not None:
            tables.intents[intent_id] = Intent(
                id=intent_id,
                connection_id=connection_id,
                version=credential.version,
                resource=resource,
                fence=fence,
                sent_at=now,
            )
        return RefreshOpen(
            lease=Lease(resource=resource, owner=owner, fence=fence),
            connection=connection,
            credential=credential,
            abandoned=abandoned,
        )

    async def refresh_history(self, connection_id: str, version: int) -> RefreshHistory:
        tried = [
            intent
            for intent in self._tables.intents.values()
            if (intent.connection_id, intent.version) == (connection_id, version)
        ]
        failed = [intent for intent in tried if intent.outcome == "failed"]
        unknown = [self._since(intent.sent_at) for intent in tried if intent.outcome == "unknown"]
        waits = [-self._since(intent.retry_at) for intent in failed if intent.retry_at is not None]
        kept = [intent for intent in tried if intent.late is not None]
        newest = max(kept, key=lambda intent: intent.fence, default=None)
        late = None
        if newest is not None and newest.late is not None:
            late = LateToken(intent_id=newest.id, credential=newest.late)
        return RefreshHistory(
            failed=len(failed),
            retry_in=max([0.0, *waits]),
            unknown=len(unknown),
            unknown_age=max([0.0, *unknown]),
            late=late,
        )

    async def renew_refresh(self, lease: Lease, *, seconds: float) -> None:
        self._renew(lease, seconds)

    async def settle_abandoned(
        self,
        lease: Lease,
        intent_id: str,
        *,
        outcome: Literal["failed", "unknown"],
        error: str,
        event: Event | None,
        seconds: float,
    ) -> None:
        if outcome not in ("failed", "unknown"):
            raise BadInput(f"An abandoned refresh is failed or unknown, not {outcome!r}.", field="outcome")
        tables = self._tables
        tables.held(lease)
        tables.check_new(event)
        self._renew(lease, seconds)
        for intent in _intents(tables, lease.resource):
            if intent.fence < lease.fence:
                is_it = intent.id == intent_id
                _settle(tables, intent, outcome if is_it else "dropped", error if is_it else "")
        connection = tables.connection(lease.resource.removeprefix("refresh:"))
        if outcome == "unknown" and connection.status == "active":
            tables.change(connection, refresh_state="unknown", last_error=error)
        tables.enqueue(event)

    async def close_refresh(
        self,
        new: SealedCredential,
        *,
        lease: Lease,
        active_version: int,
        event: Event,
        adopted: str | None = None,
        also: Sequence[Event] = (),
    ) -> None:
        not_empty(new)
        tables = self._tables
        if lease.resource != f"refresh:{new.connection_id}":
            raise BadInput("The lease is for another connection than the credential.", field="lease")
        hold = tables.held(lease)
        connection = tables.connection(new.connection_id)
        if connection.status not in RENEWED:
            raise InvalidTransition(
                f"A connection that is {connection.status} takes no refreshed credential.",
                metadata={"connection_id": connection.id},
            )
        active = tables.active.get(connection.id)
        if active != active_version or new.version != len(tables.credentials[connection.id]) + 1:
            raise VersionConflict(metadata={"connection_id": connection.id, "active_version": active})
        tables.check_new(event, *also)
        changes = tables.save(new, cause=event)
        if connection.status == "active" and (connection.refresh_state != "ok" or connection.last_error):
            connection = tables.change(connection, refresh_state="ok", last_error="")
        lost = needs_reconsent(changes, cause=event)
        if lost is not None and connection.status == "active":
            tables.change(connection, status="needs_reconsent", refresh_state="ok", last_error=ALL_TAKEN_BACK)
            tables.enqueue(lost)
        if adopted is not None and adopted in tables.intents:
            kept = tables.intents[adopted]
            kept.outcome, kept.late = "adopted", None
            kept.settled_at = tables.clock.now()
        self._settle_own(lease, "saved")
        for announced in (event, *also):
            tables.enqueue(announced)
        hold.owner = hold.expires_at = None

    async def keep_late(self, lease: Lease, new: SealedCredential) -> bool:
        not_empty(new)
        if lease.resource != f"refresh:{new.connection_id}":
            raise BadInput("The lease is for another connection than the credential.", field="lease")
        tables = self._tables
        connection, intent = tables.connection(new.connection_id), self._intent(lease)
        used = new.version - 1
        if connection.status not in RENEWED or tables.active.get(connection.id) != used or intent.version != used:
            return False
        intent.late = new
        return True

    async def fail_refresh(
        self,
        lease: Lease,
        *,
        error: str,
        terminal: bool,
        event: Event | None,
        state: str = "backing_off",
        retry_in: float = 0.0,
    ) -> None:
        if state not in ("backing_off", "unknown"):
            raise BadInput(f"A refresh that failed is backing_off or unknown, not {state!r}.", field="state")
        tables = self._tables
        hold = tables.held(lease)
        intent = self._intent(lease)
        tables.check_new(event)
        connection = tables.connection(intent.connection_id)
        hold.owner = hold.expires_at = None
        outcome = "terminal" if terminal else "unknown" if state == "unknown" else "failed"
        _settle(tables, intent, outcome, error)
        intent.retry_at = tables.later(retry_in)
        if terminal:
            if connection.status not in may_become("pending_reauth"):
                return
            if tables.active.get(connection.id) != intent.version:
                return
            tables.change(connection, status="pending_reauth", refresh_state="ok", last_error=error)
        elif connection.status == "active":
            tables.change(connection, refresh_state=state, last_error=error)
        tables.enqueue(event)

    async def drop_refresh(self, lease: Lease) -> None:
        hold = self._tables.held(lease)
        hold.owner = hold.expires_at = None
        self._settle_own(lease, "dropped")

    def _settle_own(self, lease: Lease, outcome: str) -> None:
        """Settle the intent of a lease, if it has one."""
        for intent in _intents(self._tables, lease.resource):
            if intent.fence == lease.fence:
                _settle(self._tables, intent, outcome)

    def _renew(self, lease: Lease, seconds: float) -> None:
        self._tables.held(lease).expires_at = self._tables.later(seconds)
        for intent in _intents(self._tables, lease.resource):
            if intent.fence == lease.fence and intent.settled_at is None:
                intent.sent_at = self._tables.clock.now()

    def _intent(self, lease: Lease) -> Intent:
        for intent in _intents(self._tables, lease.resource):
            if intent.fence == lease.fence:
                return intent
        raise LeaseLost(metadata={"resource": lease.resource})

    def _since(self, at: datetime) -> float:
        return (self._tables.clock.now() - at).total_seconds()
