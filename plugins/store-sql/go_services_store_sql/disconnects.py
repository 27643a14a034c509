"""Units of work of the end of a connection: what it destroys, and what it keeps until the provider was told."""

from __future__ import annotations

from go_services_core.errors import BadInput, VersionConflict
from go_services_core.lifecycle import subscription_cancelled
from go_services_core.model import REVOKE_JOB, Connection, Event, Job, NewJob, SealedCredential
from go_services_core.states import may_become

from . import connections, jobs, late, leases
from .credentials import KEPT, WITH_CIPHERTEXT, insert_credential
from .events import enqueue
from .models import JobRow
from .statement import Param, Row, Statement, Steps
from .transitions import among

END: Statement[Connection] = Statement(
    among(
        may_become("disconnected"),
        """UPDATE service_connections SET status = 'disconnected', refresh_state = 'ok', last_error = '',
      updated_at = @now
    WHERE id = :id AND deleted_at IS NULL AND status @before RETURNING @columns""",
    ),
    connections.connection_of,
    columns=connections.COLUMNS,
)
REVOKE: Statement[Row] = Statement(
    """UPDATE service_credentials SET status = 'revoked', revocation_reason = :reason, updated_at = @now
    WHERE connection_id = :connection_id AND status = 'active'"""
)
DESTROY: Statement[Row] = Statement(
    f"""UPDATE service_credentials SET encrypted_payload = :empty, destroyed_at = @now, updated_at = @now
    WHERE connection_id = :connection_id AND destroyed_at IS NULL AND NOT {KEPT}"""  # noqa: S608
)
DESTROY_ONE: Statement[Row] = Statement(
    """UPDATE service_credentials SET encrypted_payload = :empty, destroyed_at = @now, updated_at = @now
    WHERE id = :id AND status <> 'active' AND destroyed_at IS NULL RETURNING id"""
)
CANCEL_SUBSCRIPTIONS: Statement[Row] = Statement(
    """UPDATE service_subscriptions SET status = 'cancelled',
      status_reason = CASE WHEN status = 'cancelled' THEN status_reason ELSE :reason END,
      verification_token = NULL, encryption_backend = '', encryption_key_id = '', encryption_version = 1,
      version = version + 1, updated_at = @now
    WHERE connection_id = :connection_id AND (status <> 'cancelled' OR verification_token IS NOT NULL)
    RETURNING id, resource_type, resource_id, channel_id"""
)
# Locked: one that somebody else cancels at the same moment has its event already.
CANCELLED_BEFORE: Statement[Row] = Statement(
    {
        "sqlite": """SELECT id FROM service_subscriptions
        WHERE connection_id = :connection_id AND status = 'cancelled' AND verification_token IS NOT NULL""",
        "postgres": """WITH mine AS MATERIALIZED (
          SELECT id, status FROM service_subscriptions WHERE connection_id = :connection_id
            AND (status <> 'cancelled' OR verification_token IS NOT NULL) ORDER BY id FOR NO KEY UPDATE)
        SELECT id FROM mine WHERE status = 'cancelled'""",
    }
)
PENDING: Statement[Job] = Statement(
    JobRow.select(*jobs.COLUMNS)
    .where(
        JobRow.connection_id == Param("connection_id"),
        JobRow.kind == REVOKE_JOB,
        JobRow.status.in_(("queued", "running")),
    )
    .order_by(JobRow.id),
    jobs.job_of,
)


def disconnect(
    connection_id: str, *, reason: str, event: Event, version: int | None, job: NewJob | None
) -> Steps[Connection]:
    """Status, credentials, subscriptions, lease, job and event together: 9 statements, one more for each
    subscription, 2 more with a job.

    A second time nothing. Raises ConnectionNotFound, VersionConflict or BadInput.
    """
    ended = yield from END.first(id=connection_id)
    if ended is None:
        return (yield from connections.get(connection_id))
    _, active = yield from connections.load(connection_id)
    if version is not None:
        came_late = yield from late.newest(connection_id, version)
        if active is None or active.version != version or came_late is not None:
            known = {"connection_id": connection_id, "active_version": None if active is None else active.version}
            raise VersionConflict("The credential was renewed meanwhile.", metadata=known)
    if job is not None:
        _check(job, active)
        yield from jobs.enqueue(job)
    yield from REVOKE(connection_id=connection_id, reason=reason)
    yield from DESTROY(connection_id=connection_id, empty=b"")
    yield from late.DESTROY(connection_id=connection_id)
    before = {row[0] for row in (yield from CANCELLED_BEFORE(connection_id=connection_id))}
    cancelled = yield from CANCEL_SUBSCRIPTIONS(connection_id=connection_id, reason=reason)
    yield from leases.break_lease(leases.refresh_of(connection_id))
    yield from enqueue(event)
    for place, row in enumerate(sorted(row for row in cancelled if row[0] not in before), start=1):
        of = dict(zip(("id", "resource_type", "resource_id", "channel_id"), row, strict=True))
        yield from enqueue(subscription_cancelled(event, place, reason=reason, **of))
    return ended


def _check(job: NewJob, credential: SealedCredential | None) -> None:
    known = None if credential is None else (credential.id, REVOKE_JOB, credential.connection_id)
    if (job.id, job.kind, job.connection_id) != known:
        raise BadInput("The job does not revoke that credential.", field="job")


def keep(new: SealedCredential, job: NewJob) -> Steps[bool]:
    """Keep ``new`` and its job, not active: 5 statements and a lock; False where the connection is not disconnected or
    has that version. Raises BadInput or ConnectionNotFound."""
    _check(job, new)
    yield from connections.LOCK(connection_id=new.connection_id)
    found = yield from connections.get(new.connection_id)
    if found.status != "disconnected" or not (yield from insert_credential(new, updated_at=new.created_at)):
        return False
    yield from REVOKE(connection_id=new.connection_id, reason="came after the disconnect")
    yield from jobs.enqueue(job)
    return True


def with_ciphertext(connection_id: str) -> Steps[list[SealedCredential]]:
    """Every version that was not destroyed, the newest first: one statement."""
    return (yield from WITH_CIPHERTEXT(connection_id=connection_id))


def pending(connection_id: str) -> Steps[list[Job]]:
    """The open jobs that revoke what disconnects kept: one statement."""
    return (yield from PENDING(connection_id=connection_id))


def destroy(credential_id: str, *, event: Event) -> Steps[bool]:
    """Ciphertext and event together; False where there is none any more, or the credential is active."""
    if (yield from DESTROY_ONE.first(id=credential_id, empty=b"")) is None:
        return False
    yield from enqueue(event)
    return True
