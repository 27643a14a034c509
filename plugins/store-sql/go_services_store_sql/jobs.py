"""Jobs: work that is queued, perhaps under an idempotency key, and done under a lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from go_services_core.errors import BadInput, IdempotencyMismatch
from go_services_core.lifecycle import JobEvent, job_event
from go_services_core.model import Claim, Job, NewJob, Page, QueueItem, Scope

from . import connections
from .dialect import Json, read_json, read_time
from .events import enqueue as enqueue_event
from .listing import Listing
from .models import JobKeyRow, JobRow
from .statement import Param, Row, Statement, Steps, insert

COLUMNS = (
    JobRow.id,
    JobRow.kind,
    JobRow.provider_id,
    JobRow.scope_type,
    JobRow.scope_id,
    JobRow.connection_id,
    JobRow.mode,
    JobRow.requested_by,
    JobRow.payload,
    JobRow.metadata,
    JobRow.checkpoint,
    JobRow.status,
    JobRow.attempts,
    JobRow.last_error,
    JobRow.created_at,
    JobRow.updated_at,
    JobRow.order_key,
)
SETTLED = {"done": "succeeded", "retry": "queued", "dead": "failed"}
ENDED: Mapping[str, JobEvent] = {"done": "job.succeeded", "dead": "job.failed"}


def job_of(row: Row) -> Job:
    """The job in a row of ``COLUMNS``."""
    return Job(
        id=row[0],
        kind=row[1],
        provider_id=row[2],
        scope=None if row[3] is None else Scope(row[3], row[4]),
        connection_id=row[5],
        mode=row[6],
        requested_by=row[7],
        payload=read_json(row[8]),
        metadata=read_json(row[9]),
        checkpoint=row[10],
        status=row[11],
        attempts=row[12],
        last_error=row[13],
        created_at=read_time(row[14]),
        updated_at=read_time(row[15]),
        order_key=row[16],
    )


def _item_of(row: Row) -> QueueItem:
    return QueueItem(
        id=row[0],
        queue="jobs",
        status=row[1],
        attempts=row[2],
        provider_id=row[3],
        name=row[4],
        error=row[5],
        created_at=read_time(row[6]),
    )


INSERT_JOB: Statement[Row] = Statement(
    """INSERT INTO service_sync_jobs (id, kind, provider_id, scope_type, scope_id, connection_id, mode, requested_by,
      order_key, payload, status, next_attempt_at, metadata, created_at, updated_at)
    VALUES (:id, :kind, :provider_id, :scope_type, :scope_id, :connection_id, :mode, :requested_by,
      :order_key, :payload, 'queued', @later(delay), :metadata, :created_at, :created_at)"""
)
TAKE_KEY: Statement[Row] = Statement(
    insert(JobKeyRow),
    tail="ON CONFLICT (scope_type, scope_id, provider_id, mode, idempotency_key) DO NOTHING RETURNING id",
)
OF_KEY: Statement[Row] = Statement(
    """SELECT job.id, job.connection_id, job.kind FROM service_sync_job_idempotency AS taken
    JOIN service_sync_jobs AS job ON job.id = taken.sync_job_id
    WHERE taken.scope_type = :scope_type AND taken.scope_id = :scope_id AND taken.provider_id = :provider_id
      AND taken.mode = :mode AND taken.idempotency_key = :idempotency_key"""
)
CLAIM: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_sync_jobs SET status = 'running', owner = :owner, fence = fence + 1,
          attempts = attempts + 1, next_attempt_at = @later(seconds), updated_at = @now
        WHERE id IN (
          SELECT id FROM service_sync_jobs AS item
          WHERE status IN ('queued', 'running') AND next_attempt_at <= @now
            AND kind IN (SELECT value FROM json_each(:kinds))
            AND (order_key IS NULL OR NOT EXISTS (
              SELECT 1 FROM service_sync_jobs AS head
              WHERE head.kind = item.kind AND head.order_key = item.order_key AND head.id < item.id
                AND head.status IN ('queued', 'running')))
          ORDER BY next_attempt_at, id LIMIT :rows)
        RETURNING fence, @columns""",
        # ANY, where IN would be a join, which may read all that is due before it sorts.
        "postgres": """WITH due AS MATERIALIZED (
          SELECT id AS due_id FROM service_sync_jobs AS item
          WHERE status IN ('queued', 'running') AND next_attempt_at <= @now
            AND kind = ANY (ARRAY(SELECT jsonb_array_elements_text(:kinds)))
            AND (order_key IS NULL OR NOT EXISTS (
              SELECT 1 FROM service_sync_jobs AS head
              WHERE head.kind = item.kind AND head.order_key = item.order_key AND head.id < item.id
                AND head.status IN ('queued', 'running')))
          ORDER BY next_attempt_at, id LIMIT :rows FOR NO KEY UPDATE SKIP LOCKED)
        UPDATE service_sync_jobs SET status = 'running', owner = :owner, fence = fence + 1,
          attempts = attempts + 1, next_attempt_at = @later(seconds), updated_at = @now
        FROM due WHERE id = due_id
        RETURNING fence, @columns""",
    },
    columns=COLUMNS,
)
HEARTBEAT: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_sync_jobs SET next_attempt_at = @later(seconds)
        FROM json_each(:held) AS held
        WHERE service_sync_jobs.id = json_extract(held.value, '$[0]')
          AND owner = json_extract(held.value, '$[1]') AND fence = json_extract(held.value, '$[2]')
          AND status = 'running'
        RETURNING service_sync_jobs.id, fence""",
        "postgres": """UPDATE service_sync_jobs SET next_attempt_at = @later(seconds)
        FROM jsonb_array_elements(:held) AS held (value)
        WHERE id = ANY (ARRAY(SELECT mine ->> 0 FROM jsonb_array_elements(:held) AS mine))
          AND id = value ->> 0 AND owner = value ->> 1 AND fence = (value ->> 2)::integer AND status = 'running'
        RETURNING id, fence""",
    }
)
CHECKPOINT: Statement[Row] = Statement(
    """UPDATE service_sync_jobs SET checkpoint = :text, next_attempt_at = @later(seconds), updated_at = @now
    WHERE id = :id AND owner = :owner AND fence = :fence AND status = 'running' RETURNING id"""
)
SETTLE: Statement[Row] = Statement(
    """UPDATE service_sync_jobs SET status = :status, owner = NULL,
      next_attempt_at = CASE WHEN :status = 'queued' THEN @later(delay) END,
      last_error = :error, updated_at = @now
    WHERE id = :id AND owner = :owner AND fence = :fence AND status = 'running' RETURNING fence, @columns""",
    columns=COLUMNS,
)
SETTLE_MANY: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_sync_jobs SET status = :status, owner = NULL,
          next_attempt_at = CASE WHEN :status = 'queued' THEN @later(delay) END,
          last_error = :error, updated_at = @now
        FROM json_each(:held) AS held
        WHERE service_sync_jobs.id = json_extract(held.value, '$[0]')
          AND owner = json_extract(held.value, '$[1]') AND fence = json_extract(held.value, '$[2]')
          AND status = 'running'
        RETURNING fence, @columns""",
        "postgres": """UPDATE service_sync_jobs SET status = :status, owner = NULL,
          next_attempt_at = CASE WHEN :status = 'queued' THEN @later(delay) END,
          last_error = :error, updated_at = @now
        FROM jsonb_array_elements(:held) AS held (value)
        WHERE id = ANY (ARRAY(SELECT mine ->> 0 FROM jsonb_array_elements(:held) AS mine))
          AND id = value ->> 0 AND owner = value ->> 1 AND fence = (value ->> 2)::integer AND status = 'running'
        RETURNING fence, @columns""",
    },
    columns=COLUMNS,
)
REQUEUE: Statement[Row] = Statement(
    """UPDATE service_sync_jobs SET status = 'queued', attempts = 0, next_attempt_at = @now, updated_at = @now
    WHERE id = :id AND status = 'failed' RETURNING fence, @columns""",
    columns=COLUMNS,
)
GET: Statement[Job] = Statement(JobRow.select(*COLUMNS).where(JobRow.id == Param("id")), job_of)
LIST = Listing(
    JobRow.select(
        JobRow.id,
        JobRow.status,
        JobRow.attempts,
        JobRow.provider_id,
        JobRow.kind,
        JobRow.last_error,
        JobRow.created_at,
    )
    .where(JobRow.id > Param("after"))
    .order_by(JobRow.id),
    status=JobRow.status,
    provider_id=JobRow.provider_id,
    name=JobRow.kind,
    created_at=JobRow.created_at,
    row=_item_of,
)


def enqueue(job: NewJob) -> Steps[tuple[str, bool]]:
    """Keep a job: one statement, one more each for a connection and an idempotency key, two for a data sync.

    Raises IdempotencyMismatch, ConnectionNotFound or BadInput.
    """
    if not job.kind.strip():
        raise BadInput("A job needs a kind, which names the function that does it.", field="job.kind")
    if job.connection_id is not None:
        yield from connections.get(job.connection_id)
    if job.idempotency_key is not None:
        known = yield from _take_key(job, job.idempotency_key)
        if known is not None:
            return known, False
    yield from INSERT_JOB(
        id=job.id,
        kind=job.kind,
        provider_id=job.provider_id,
        scope_type=None if job.scope is None else job.scope.type,
        scope_id=None if job.scope is None else job.scope.id,
        connection_id=job.connection_id,
        mode=job.mode,
        requested_by=job.requested_by,
        order_key=job.order_key,
        payload=Json(dict(job.payload)),
        delay=job.delay,
        metadata=Json(dict(job.metadata)),
        created_at=job.created_at,
    )
    if job.mode:
        kept = yield from GET.first(id=job.id)
        assert kept is not None
        announced = job_event("job.queued", kept, fence=0, at=job.created_at)
        assert announced is not None
        yield from enqueue_event(announced)
    return job.id, True


def _take_key(job: NewJob, key: str) -> Steps[str | None]:
    """Take the key for ``job``; the id of the job that has it already, if one has."""
    if not key.strip():
        raise BadInput("An idempotency key may not be blank.", field="job.idempotency_key")
    which = {
        "scope_type": "" if job.scope is None else job.scope.type,
        "scope_id": "" if job.scope is None else job.scope.id,
        "provider_id": job.provider_id,
        "mode": job.mode,
        "idempotency_key": key,
    }
    rest = {"connection_id": job.connection_id, "requested_by": job.requested_by}
    times = {"created_at": job.created_at, "updated_at": job.created_at}
    while (yield from TAKE_KEY.first(**which, **rest, **times, id=job.id, sync_job_id=job.id)) is None:
        known = yield from OF_KEY.first(**which)
        if known is None:
            continue  # pruned in between
        job_id, connection_id, kind = known
        if (connection_id, kind) != (job.connection_id, job.kind):
            raise IdempotencyMismatch(
                "This idempotency key was used for a job of another connection or kind.", metadata={"job_id": job_id}
            )
        return str(job_id)
    return None


def claim(*, owner: str, seconds: float, limit: int, kinds: Sequence[str]) -> Steps[list[Claim]]:
    """Take what is due of ``kinds``: one statement."""
    taken = yield from CLAIM(owner=owner, seconds=seconds, rows=limit, kinds=Json(list(kinds)))
    jobs = [(row[0], job_of(row[1:])) for row in taken]
    claims = [
        Claim(queue="jobs", id=job.id, owner=owner, fence=fence, attempt=job.attempts, job=job) for fence, job in jobs
    ]
    return sorted(claims, key=lambda claim: claim.id)  # RETURNING has no order


def heartbeat(claims: Sequence[Claim], *, seconds: float) -> Steps[list[str]]:
    """Extend the leases: one statement. Gives the ids that are lost."""
    held = Json([[claim.id, claim.owner, claim.fence] for claim in claims])
    kept = {(row[0], row[1]) for row in (yield from HEARTBEAT(held=held, seconds=seconds))}
    return [claim.id for claim in claims if (claim.id, claim.fence) not in kept]


def checkpoint(claim: Claim, text: str, *, seconds: float) -> Steps[bool]:
    """Save the progress and extend the lease; False when it is not held any more."""
    held: dict[str, Any] = {"id": claim.id, "owner": claim.owner, "fence": claim.fence}
    return (yield from CHECKPOINT.first(**held, text=text, seconds=seconds)) is not None


def settle(claim: Claim, outcome: str, *, error: str, delay: float) -> Steps[bool]:
    """End the claim; False when it is not held any more."""
    values: dict[str, Any] = {"status": SETTLED[outcome], "error": error, "delay": delay}
    ended = yield from SETTLE.first(**values, id=claim.id, owner=claim.owner, fence=claim.fence)
    if ended is None:
        return False
    yield from _announce(ENDED.get(outcome), ended)
    return True


def _announce(name: JobEvent | None, row: Row) -> Steps[None]:
    """The event of what became of the job in a row of its fence and ``COLUMNS``: a statement for a data sync."""
    if name is not None:
        job = job_of(row[1:])
        event = job_event(name, job, fence=row[0], at=job.updated_at)
        if event is not None:
            yield from enqueue_event(event)


def settle_many(claims: Sequence[Claim], outcome: str, *, error: str, delay: float) -> Steps[list[str]]:
    """End the claims: one statement. Gives the ids that are lost."""
    held = Json([[claim.id, claim.owner, claim.fence] for claim in claims])
    ended = yield from SETTLE_MANY(held=held, status=SETTLED[outcome], error=error, delay=delay)
    for row in ended:
        yield from _announce(ENDED.get(outcome), row)
    kept = {(row[1], row[0]) for row in ended}
    return [claim.id for claim in claims if (claim.id, claim.fence) not in kept]


def requeue(job_id: str) -> Steps[bool]:
    """Make a failed job due again: one statement, and one for the event of a data sync."""
    row = yield from REQUEUE.first(id=job_id)
    if row is None:
        return False
    yield from _announce("job.requeued", row)
    return True


def get(job_id: str) -> Steps[Job | None]:
    """The job as it stands."""
    return (yield from GET.first(id=job_id))


def page(filters: Mapping[str, Any], *, after: str | None, limit: int) -> Steps[Page[QueueItem]]:
    """Jobs by id."""
    return (yield from LIST.page(filters, {"after": after or ""}, limit=limit))
