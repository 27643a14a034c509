"""Units of work of a refresh: two commits around the token request, nothing held in between."""

from __future__ import annotations

from go_services_core.errors import (
    BadInput,
    InvalidTransition,
    LeaseLost,
    ReauthRequired,
    RefreshLocked,
    ServicesError,
    VersionConflict,
)
from go_services_core.model import Event, Lease, RefreshOpen, SealedCredential

from . import connections, leases
from .credentials import grants_of, insert_credential
from .events import enqueue
from .grants import record_grants
from .statement import Row, Statement, Steps

INSERT_INTENT: Statement[Row] = Statement(
    """INSERT INTO service_refresh_intents (id, connection_id, version, resource, fence, sent_at)
    VALUES (:id, :connection_id, :version, :resource, :fence, @now)"""
)
SETTLE_INTENT: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET outcome = :outcome, last_error = :error, settled_at = @now
    WHERE resource = :resource AND fence = :fence AND settled_at IS NULL RETURNING connection_id, version"""
)
SUPERSEDE_UNDER_LEASE: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_credentials SET status = 'revoked', revocation_reason = 'rotated', updated_at = @now
        WHERE connection_id = :connection_id AND version = :version AND status = 'active'
          AND EXISTS (SELECT 1 FROM service_leases
                      WHERE resource = :resource AND owner = :owner AND fence = :fence)
          AND EXISTS (SELECT 1 FROM service_connections
                      WHERE id = :connection_id AND status = 'active' AND deleted_at IS NULL)
        RETURNING requested_scopes, granted_scopes,
          (SELECT refresh_state <> 'ok' OR last_error <> '' FROM service_connections WHERE id = :connection_id)""",
        # With connections.LOCK in the same statement: a disconnect in between would not see the new version.
        "postgres": """WITH connection AS MATERIALIZED (
          SELECT refresh_state <> 'ok' OR last_error <> '' AS troubled FROM service_connections
          WHERE id = :connection_id AND status = 'active' AND deleted_at IS NULL FOR NO KEY UPDATE)
        UPDATE service_credentials SET status = 'revoked', revocation_reason = 'rotated', updated_at = @now
        FROM connection
        WHERE connection_id = :connection_id AND version = :version AND status = 'active'
          AND EXISTS (SELECT 1 FROM service_leases
                      WHERE resource = :resource AND owner = :owner AND fence = :fence)
        RETURNING requested_scopes, granted_scopes, troubled""",
    }
)
RECOVERED: Statement[Row] = Statement(
    """UPDATE service_connections SET refresh_state = 'ok', last_error = '', updated_at = @now
    WHERE id = :connection_id"""
)
REAUTH: Statement[Row] = Statement(
    """UPDATE service_connections SET status = 'pending_reauth', refresh_state = 'ok', last_error = :error,
      updated_at = @now
    WHERE id = :connection_id AND status = 'active'
      AND EXISTS (SELECT 1 FROM service_credentials
                  WHERE connection_id = :connection_id AND version = :version AND status = 'active')
    RETURNING id"""
)
BACK_OFF: Statement[Row] = Statement(
    """UPDATE service_connections SET refresh_state = :state, last_error = :error, updated_at = @now
    WHERE id = :connection_id AND status = 'active'"""
)


def open_refresh(connection_id: str, *, owner: str, seconds: float, intent_id: str) -> Steps[RefreshOpen]:
    """Lease, intent and credential: 3 statements. Raises RefreshLocked, ReauthRequired or ConnectionNotFound."""
    resource = leases.refresh_of(connection_id)
    lease = yield from leases.take(resource, owner=owner, seconds=seconds)
    if lease is None:
        left = yield from leases.remaining(resource)
        raise RefreshLocked(metadata={"connection_id": connection_id, "retry_in": left})
    connection, credential = yield from connections.load(connection_id)
    if connection.status != "active" or credential is None:
        raise ReauthRequired(metadata={"connection_id": connection_id, "status": connection.status})
    yield from INSERT_INTENT(
        id=intent_id,
        connection_id=connection_id,
        version=credential.version,
        resource=resource,
        fence=lease.fence,
    )
    return RefreshOpen(lease=lease, connection=connection, credential=credential)


def close_refresh(new: SealedCredential, *, lease: Lease, active_version: int, event: Event) -> Steps[None]:
    """Save ``new``: 5 statements, more only when grants changed or an earlier failure is cleared.

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
    if grants_of(requested, granted) != (new.requested, new.granted):
        connection = yield from connections.get(new.connection_id)
        grants = (new.requested, new.granted)
        yield from record_grants(connection, grants, event_id=event.id, at=new.created_at)
    if troubled:
        yield from RECOVERED(connection_id=new.connection_id)
    yield from SETTLE_INTENT(outcome="saved", error="", resource=lease.resource, fence=lease.fence)
    yield from enqueue(event)
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


def fail_refresh(lease: Lease, *, error: str, terminal: bool, event: Event | None, state: str) -> Steps[None]:
    """Settle the intent and release the lease: 3 or 4 statements and a lock. Raises LeaseLost.

    A terminal failure of a version that is not the active one any more changes nothing but the intent.
    """
    yield from connections.LOCK(connection_id=leases.connection_of(lease.resource))
    yield from leases.release(lease)
    outcome = "terminal" if terminal else "failed"
    intent = yield from SETTLE_INTENT.first(outcome=outcome, error=error, resource=lease.resource, fence=lease.fence)
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
