"""Units of work of a refresh: two commits around the token request, nothing held in between."""

from __future__ import annotations

from collections.abc import Sequence

from go_services_core.errors import (
    BadInput,
    InvalidTransition,
    LeaseLost,
    ReauthRequired,
    RefreshLocked,
    ServicesError,
    VersionConflict,
)
from go_services_core.grants import ALL_TAKEN_BACK, needs_reconsent
from go_services_core.model import Event, SealedCredential
from go_services_core.refreshes import AbandonedRefresh, Lease, RefreshHistory, RefreshOpen
from go_services_core.states import RENEWED, may_become

from . import connections, late, leases
from .credentials import grants_of, insert_credential
from .events import enqueue
from .grants import record_grants
from .statement import Row, Statement, Steps
from .transitions import among

INSERT_INTENT: Statement[Row] = Statement(
    """INSERT INTO service_refresh_intents (id, connection_id, version, resource, fence, sent_at)
    VALUES (:id, :connection_id, :version, :resource, :fence, @now)
    RETURNING (SELECT earlier.id FROM service_refresh_intents AS earlier
      WHERE earlier.resource = :resource AND earlier.fence < :fence AND earlier.settled_at IS NULL
        AND earlier.version = :version ORDER BY earlier.fence LIMIT 1)"""
)
"""Gives the oldest intent of that version that nobody has settled: only its holder can have sent a request, since each
later one settles it before sending its own."""
UNTIL_SENT: Statement[Row] = Statement("SELECT @remaining(sent_at) FROM service_refresh_intents WHERE id = :id")
NOT_SENT_YET: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET sent_at = @now
    WHERE resource = :resource AND fence = :fence AND settled_at IS NULL"""
)
SETTLE_INTENT: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET outcome = :outcome, last_error = :error, settled_at = @now
    WHERE resource = :resource AND fence = :fence AND settled_at IS NULL RETURNING connection_id, version"""
)
FAIL_INTENT: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET outcome = :outcome, last_error = :error, settled_at = @now,
      retry_at = @later(retry_in)
    WHERE resource = :resource AND fence = :fence AND settled_at IS NULL RETURNING connection_id, version"""
)
SETTLE_EARLIER: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET outcome = CASE WHEN id = :id THEN :outcome ELSE 'dropped' END,
      last_error = CASE WHEN id = :id THEN :error ELSE '' END, settled_at = @now
    WHERE resource = :resource AND fence < :fence AND settled_at IS NULL"""
)
HISTORY: Statement[Row] = Statement(
    """SELECT count(CASE WHEN outcome = 'failed' THEN 1 END),
      max(CASE WHEN outcome = 'failed' THEN @remaining(retry_at) END),
      count(CASE WHEN outcome = 'unknown' THEN 1 END), min(CASE WHEN outcome = 'unknown' THEN @remaining(sent_at) END)
    FROM service_refresh_intents WHERE connection_id = :connection_id AND version = :version"""
)
SUPERSEDE_UNDER_LEASE: Statement[Row] = Statement(
    {
        "sqlite": among(
            RENEWED,
            """UPDATE service_credentials SET status = 'revoked', revocation_reason = 'rotated', updated_at = @now
        WHERE connection_id = :connection_id AND version = :version AND status = 'active'
          AND EXISTS (SELECT 1 FROM service_leases
                      WHERE resource = :resource AND owner = :owner AND fence = :fence)
          AND EXISTS (SELECT 1 FROM service_connections
                      WHERE id = :connection_id AND status @before AND deleted_at IS NULL)
        RETURNING requested_scopes, granted_scopes,
          (SELECT status = 'active' AND (refresh_state <> 'ok' OR last_error <> '')
           FROM service_connections WHERE id = :connection_id)""",
        ),
        # With connections.LOCK in the same statement: a disconnect in between would not see the new version.
        "postgres": among(
            RENEWED,
            """WITH connection AS MATERIALIZED (
          SELECT status = 'active' AND (refresh_state <> 'ok' OR last_error <> '') AS troubled FROM service_connections
          WHERE id = :connection_id AND status @before AND deleted_at IS NULL FOR NO KEY UPDATE)
        UPDATE service_credentials SET status = 'revoked', revocation_reason = 'rotated', updated_at = @now
        FROM connection
        WHERE connection_id = :connection_id AND version = :version AND status = 'active'
          AND EXISTS (SELECT 1 FROM service_leases
                      WHERE resource = :resource AND owner = :owner AND fence = :fence)
        RETURNING requested_scopes, granted_scopes, troubled""",
        ),
    }
)
RECOVERED: Statement[Row] = Statement(
    """UPDATE service_connections SET refresh_state = 'ok', last_error = '', updated_at = @now
    WHERE id = :connection_id"""
)
REAUTH: Statement[Row] = Statement(
    among(
        may_become("pending_reauth"),
        """UPDATE service_connections SET status = 'pending_reauth', refresh_state = 'ok', last_error = :error,
      updated_at = @now
    WHERE id = :connection_id AND status @before
      AND EXISTS (SELECT 1 FROM service_credentials
                  WHERE connection_id = :connection_id AND version = :version AND status = 'active')
    RETURNING id""",
    )
)
BACK_OFF: Statement[Row] = Statement(
    """UPDATE service_connections SET refresh_state = :state, last_error = :error, updated_at = @now
    WHERE id = :connection_id AND status = 'active'"""
)


def open_refresh(connection_id: str, *, owner: str, seconds: float, intent_id: str | None) -> Steps[RefreshOpen]:
    """Lease, credential and, if it has an id, intent: 3 statements.

    Raises RefreshLocked, ReauthRequired or ConnectionNotFound.
    """
    resource = leases.refresh_of(connection_id)
    lease = yield from leases.take(resource, owner=owner, seconds=seconds)
    if lease is None:
        left = yield from leases.remaining(resource)
        raise RefreshLocked(metadata={"connection_id": connection_id, "retry_in": left})
    connection, credential = yield from connections.load(connection_id)
    if connection.status != "active" or credential is None:
        raise ReauthRequired(metadata={"connection_id": connection_id, "status": connection.status})
    if intent_id is None:
        return RefreshOpen(lease=lease, connection=connection, credential=credential, abandoned=None)
    intent = yield from INSERT_INTENT.first(
        id=intent_id,
        connection_id=connection_id,
        version=credential.version,
        resource=resource,
        fence=lease.fence,
    )
    abandoned = None
    if intent is not None and intent[0] is not None:
        until_sent = yield from UNTIL_SENT.first(id=intent[0])
        age = 0.0 if until_sent is None else max(0.0, -float(until_sent[0]))
        abandoned = AbandonedRefresh(intent_id=intent[0], age=age)
    return RefreshOpen(lease=lease, connection=connection, credential=credential, abandoned=abandoned)


def history(connection_id: str, version: int) -> Steps[RefreshHistory]:
    """What was tried with that version: 2 statements."""
    ((failed, retry_in, unknown, until_sent),) = yield from HISTORY(connection_id=connection_id, version=version)
    return RefreshHistory(
        failed=failed,
        retry_in=max(0.0, float(retry_in or 0.0)),
        unknown=unknown,
        unknown_age=max(0.0, -float(until_sent or 0.0)),
        late=(yield from late.newest(connection_id, version)),
    )


def renew(lease: Lease, *, seconds: float) -> Steps[None]:
    """Extend the lease of a refresh that has not sent its request: 2 statements. Raises LeaseLost."""
    yield from leases.renew(lease, seconds=seconds)
    yield from NOT_SENT_YET(resource=lease.resource, fence=lease.fence)


def settle_abandoned(
    lease: Lease, intent_id: str, *, outcome: str, error: str, event: Event | None, seconds: float
) -> Steps[None]:
    """Settle what earlier holders left: 3 to 5 statements and a lock. Raises LeaseLost."""
    connection_id = leases.connection_of(lease.resource)
    yield from connections.LOCK(connection_id=connection_id)
    yield from renew(lease, seconds=seconds)
    yield from SETTLE_EARLIER(id=intent_id, outcome=outcome, error=error, resource=lease.resource, fence=lease.fence)
    if outcome == "unknown":
        yield from BACK_OFF(connection_id=connection_id, state="unknown", error=error)
    if event is not None:
        yield from enqueue(event)


def keep_late(lease: Lease, new: SealedCredential) -> Steps[bool]:
    """Keep a token that came too late: 1 statement and a lock."""
    if lease.resource != leases.refresh_of(new.connection_id):
        raise BadInput("The lease is for another connection than the credential.", field="lease")
    yield from connections.LOCK(connection_id=new.connection_id)
    return (yield from late.keep(lease, new))


def drop_refresh(lease: Lease) -> Steps[None]:
    """Settle an intent that sent nothing and release the lease: 2 statements. Raises LeaseLost."""
    yield from leases.release(lease)
    yield from SETTLE_INTENT(outcome="dropped", error="", resource=lease.resource, fence=lease.fence)


def close_refresh(
    new: SealedCredential,
    *,
    lease: Lease,
    active_version: int,
    event: Event,
    adopted: str | None,
    also: Sequence[Event] = (),
) -> Steps[None]:
    """Save ``new``: 5 statements, more only when grants changed, an earlier failure is cleared or it came late.

    Raises LeaseLost, VersionConflict or InvalidTransition.
    """
    if lease.resource != leases.refresh_of(new.connection_id):
        raise BadInput("The lease is for another connection than the credential.", field="lease")
    superseded = yield from SUPERSEDE_UNDER_LEASE.first(
        connection_id=new.connection_id,
        version=active_version,
        resource=lease.resource,
        owner=lease.owner,
        fence=lease.fence,
    )
    if superseded is None:
        raise (yield from _why_not(new.connection_id, lease))
    if not (yield from insert_credential(new, updated_at=new.created_at)):
        raise VersionConflict(metadata={"connection_id": new.connection_id, "version": new.version})
    requested, granted, troubled = superseded
    if troubled:
        yield from RECOVERED(connection_id=new.connection_id)
    if grants_of(requested, granted) != (new.requested, new.granted):
        connection = yield from connections.get(new.connection_id)
        changes = yield from record_grants(connection, new, cause=event)
        lost = needs_reconsent(changes, cause=event)
        if lost is not None and connection.status == "active":
            yield from connections.require_reconsent(connection.id, reason=ALL_TAKEN_BACK, event=lost)
    if adopted is not None:
        yield from late.ADOPTED(id=adopted)
    yield from SETTLE_INTENT(outcome="saved", error="", resource=lease.resource, fence=lease.fence)
    for announced in (event, *also):
        yield from enqueue(announced)
    yield from leases.release(lease)


def _why_not(connection_id: str, lease: Lease) -> Steps[ServicesError]:
    if not (yield from leases.holds(lease)):
        return LeaseLost(metadata={"resource": lease.resource})
    connection, credential = yield from connections.load(connection_id)
    if connection.status != "active":
        return InvalidTransition(
            f"A connection that is {connection.status} takes no refreshed credential.",
            metadata={"connection_id": connection_id},
        )
    version = None if credential is None else credential.version
    return VersionConflict(metadata={"connection_id": connection_id, "active_version": version})


def fail_refresh(
    lease: Lease, *, error: str, terminal: bool, event: Event | None, state: str, retry_in: float
) -> Steps[None]:
    """Settle the intent and release the lease: 3 or 4 statements and a lock. Raises LeaseLost.

    A terminal failure of a version that is not the active one any more changes nothing but the intent.
    """
    yield from connections.LOCK(connection_id=leases.connection_of(lease.resource))
    yield from leases.release(lease)
    outcome = "terminal" if terminal else "unknown" if state == "unknown" else "failed"
    intent = yield from FAIL_INTENT.first(
        outcome=outcome, error=error, retry_in=float(retry_in), resource=lease.resource, fence=lease.fence
    )
    if intent is None:
        raise LeaseLost(metadata={"resource": lease.resource})
    connection_id, version = intent
    if terminal:
        if (yield from REAUTH.first(connection_id=connection_id, version=version, error=error)) is None:
            return
    else:
        yield from BACK_OFF(connection_id=connection_id, state=state, error=error)
    if event is not None:
        yield from enqueue(event)
