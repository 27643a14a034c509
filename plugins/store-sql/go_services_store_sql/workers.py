"""The processes that work on the queues, and what waits there."""

from __future__ import annotations

from go_services_core.model import Page, QueueName
from go_services_core.worker_status import Backlog, KindCounts, WorkerProcess

from .dialect import Json, read_json, read_time
from .statement import Row, Statement, Steps

BEAT: Statement[Row] = Statement(
    """INSERT INTO service_workers (id, host, pid, kinds, counts, started_at, beat_at, expires_at)
    VALUES (:id, :host, :pid, :kinds, :counts, :started_at, @now, @later(seconds))
    ON CONFLICT (id) DO UPDATE
      SET counts = excluded.counts, beat_at = excluded.beat_at, expires_at = excluded.expires_at"""
)
FORGET: Statement[Row] = Statement("DELETE FROM service_workers WHERE expires_at < @later(before)")
LEAVE: Statement[Row] = Statement("DELETE FROM service_workers WHERE id = :id RETURNING id")


def _worker_of(row: Row) -> WorkerProcess:
    return WorkerProcess(
        id=row[0],
        host=row[1],
        pid=row[2],
        kinds=tuple(read_json(row[3])),
        counts={kind: KindCounts.from_dict(counts) for kind, counts in read_json(row[4]).items()},
        started_at=read_time(row[5]),
        age=max(0.0, -float(row[6])),
        alive=row[7] > 0,
    )


PAGE: Statement[WorkerProcess] = Statement(
    """SELECT id, host, pid, kinds, counts, started_at, @remaining(beat_at), @remaining(expires_at)
    FROM service_workers WHERE id > :after ORDER BY id LIMIT :rows""",
    _worker_of,
)

_OPEN = "status IN ('pending', 'retry_ready', 'processing')"
_RUNNING = "status IN ('queued', 'running')"


def _waiting(table: str, *, is_open: str, dead: str) -> Statement[Row]:
    # Each part is a walk along a partial index that ends after so many rows, however long the queue is.
    text = """SELECT
      (SELECT count(*) FROM (SELECT 1 FROM @table WHERE @open AND next_attempt_at <= @now LIMIT :most) AS due),
      (SELECT @remaining(first) FROM (SELECT min(next_attempt_at) AS first FROM @table WHERE @open) AS head),
      (SELECT count(*) FROM (SELECT 1 FROM @table WHERE @dead LIMIT :most) AS given_up)"""
    return Statement(text.replace("@table", table).replace("@open", is_open).replace("@dead", dead))


INBOX = _waiting("service_webhook_deliveries", is_open=_OPEN, dead="status = 'dead'")
OUTBOX = _waiting("service_event_deliveries", is_open=_OPEN, dead="status = 'dead'")
JOBS = _waiting("service_sync_jobs", is_open=_RUNNING, dead="status = 'failed'")
NEW_EVENTS: Statement[Row] = Statement(
    """SELECT
      (SELECT count(*) FROM (SELECT 1 FROM service_pending_events LIMIT :most) AS new),
      (SELECT @remaining(created_at) FROM service_lifecycle_outbox
       WHERE event_id = (SELECT min(event_id) FROM service_pending_events))"""
)


def beat(worker: WorkerProcess, *, seconds: float, forget: float) -> Steps[None]:
    """Two statements."""
    yield from BEAT(
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        kinds=Json(list(worker.kinds)),
        counts=Json({kind: counts.as_dict() for kind, counts in worker.counts.items()}),
        started_at=worker.started_at,
        seconds=seconds,
    )
    yield from FORGET(before=-forget)


def leave(worker_id: str) -> Steps[bool]:
    """One statement."""
    return (yield from LEAVE.first(id=worker_id)) is not None


def page(*, after: str | None, limit: int) -> Steps[Page[WorkerProcess]]:
    """One statement."""
    found = yield from PAGE(after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)


def backlog(*, most: int) -> Steps[list[Backlog]]:
    """Four statements, each along an index."""
    (inbox,) = yield from INBOX(most=most)
    (outbox,) = yield from OUTBOX(most=most)
    (new,) = yield from NEW_EVENTS(most=most)
    (jobs,) = yield from JOBS(most=most)
    waiting = (min(outbox[0] + new[0], most), max(_lag(outbox[1]), _lag(new[1])), outbox[2])
    return [
        _backlog("inbox", inbox[0], _lag(inbox[1]), inbox[2]),
        _backlog("outbox", *waiting),
        _backlog("jobs", jobs[0], _lag(jobs[1]), jobs[2]),
    ]


def _lag(remaining: float | None) -> float:
    return 0.0 if remaining is None else max(0.0, -float(remaining))


def _backlog(queue: QueueName, due: int, lag: float, dead: int) -> Backlog:
    return Backlog(queue=queue, due=due, lag=lag, dead=dead)
