"""Durable handlers as an operator sees them: how far they are, older events for them, and forgetting one."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase

from go_services_core.errors import Conflict, NotFound
from go_services_core.outbox import HandlerStatus, OutboxStatus

from .dialect import Json, read_time, read_time_or_none
from .models import HandlerRow
from .statement import Param, Row, Statement, Steps

GET: Statement[Row] = Statement(HandlerRow.select(HandlerRow.pattern).where(HandlerRow.name == Param("name")))
NEXT: Statement[Row] = Statement(
    """SELECT event_id, event_name, order_key, occurred_at FROM service_lifecycle_outbox
    WHERE event_id > :after ORDER BY event_id LIMIT :rows"""
)
DELIVER: Statement[Row] = Statement(
    {
        "sqlite": """INSERT INTO service_event_deliveries
          (event_id, handler, order_key, status, next_attempt_at, updated_at)
        SELECT json_extract(value, '$[0]'), :handler, json_extract(value, '$[1]'), 'pending', @now, @now
        FROM json_each(:pairs) WHERE true
        ON CONFLICT (event_id, handler) DO NOTHING RETURNING event_id""",
        "postgres": """INSERT INTO service_event_deliveries
          (event_id, handler, order_key, status, next_attempt_at, updated_at)
        SELECT value ->> 0, :handler, value ->> 1, 'pending', @now, @now
        FROM jsonb_array_elements(:pairs) AS pairs (value)
        WHERE EXISTS (SELECT 1 FROM service_lifecycle_outbox WHERE event_id = value ->> 0)
        ON CONFLICT (event_id, handler) DO NOTHING RETURNING event_id""",
    }
)
SEEN: Statement[Row] = Statement("SELECT 1 FROM service_event_handlers WHERE name = :name AND seen_at > @later(before)")
FORGET: Statement[Row] = Statement("DELETE FROM service_event_handlers WHERE name = :name")
OPEN: Statement[Row] = Statement(
    """SELECT event_id FROM service_event_deliveries WHERE handler = :handler AND status <> 'delivered'
    ORDER BY event_id LIMIT :rows"""
)
REMOVE: Statement[Row] = Statement(
    {
        "sqlite": """DELETE FROM service_event_deliveries WHERE handler = :handler AND status <> 'delivered'
          AND event_id IN (SELECT value FROM json_each(:ids)) RETURNING event_id""",
        "postgres": """DELETE FROM service_event_deliveries WHERE handler = :handler AND status <> 'delivered'
          AND event_id IN (SELECT jsonb_array_elements_text(:ids)) RETURNING event_id""",
    }
)
FORGET_POSITIONS: Statement[Row] = Statement("DELETE FROM service_event_positions WHERE handler = :handler")
KNOWN: Statement[Row] = Statement("SELECT name, pattern, created_at, seen_at FROM service_event_handlers")
COUNTS: Statement[Row] = Statement(
    """SELECT handler, sum(CASE WHEN status = 'pending' THEN 1 ELSE 0 END),
      sum(CASE WHEN status = 'retry_ready' THEN 1 ELSE 0 END), sum(CASE WHEN status = 'processing' THEN 1 ELSE 0 END),
      min(event_id), min(next_attempt_at)
    FROM service_event_deliveries WHERE status IN ('pending', 'retry_ready', 'processing') GROUP BY handler"""
)
DEAD: Statement[Row] = Statement(
    "SELECT handler, count(*) FROM service_event_deliveries WHERE status = 'dead' GROUP BY handler"
)
WAITING: Statement[Row] = Statement("SELECT count(*), min(event_id) FROM service_pending_events")
OCCURRED: Statement[Row] = Statement(
    {
        "sqlite": """SELECT event_id, occurred_at FROM service_lifecycle_outbox
        WHERE event_id IN (SELECT value FROM json_each(:ids))""",
        "postgres": """SELECT event_id, occurred_at FROM service_lifecycle_outbox
        WHERE event_id IN (SELECT jsonb_array_elements_text(:ids))""",
    }
)
CLOCK: Statement[Row] = Statement("SELECT @now")


def backfill(
    handler: str, *, since: datetime, until: datetime, after: str | None, limit: int
) -> Steps[tuple[int, str | None]]:
    """Deliver older events to a handler, a step at a time: three statements."""
    known = yield from GET.first(name=handler)
    if known is None:
        raise NotFound(
            f"No handler {handler!r} is registered.", hint="Start a process that has it first.", field="handler"
        )
    rows = yield from NEXT(after=after or "", rows=limit)
    wanted = [row for row in rows if fnmatchcase(row[1], known[0]) and since <= read_time(row[3]) < until]
    count = 0
    if wanted:
        count = len((yield from DELIVER(handler=handler, pairs=Json([[row[0], row[2]] for row in wanted]))))
    return count, rows[-1][0] if len(rows) == limit else None


def forget(handler: str, *, unseen: float, limit: int) -> Steps[int]:
    """Forget a handler and some of its deliveries that did not end: four statements."""
    if (yield from SEEN.first(name=handler, before=-unseen)) is not None:
        raise Conflict(
            f"A process has said within the last {unseen:g} seconds that it has the handler {handler!r}.",
            hint="Stop the processes that have it first.",
        )
    yield from FORGET(name=handler)
    ids = Json([row[0] for row in (yield from OPEN(handler=handler, rows=limit))])
    if not ids.value:
        yield from FORGET_POSITIONS(handler=handler)
        return 0
    return len((yield from REMOVE(handler=handler, ids=ids)))


def status() -> Steps[OutboxStatus]:
    """Every handler with its counts: six statements."""
    ((now,),) = yield from CLOCK()
    clock = read_time(now)
    known = {row[0]: row for row in (yield from KNOWN())}
    counts = {row[0]: row for row in (yield from COUNTS())}
    dead: dict[str, int] = {row[0]: row[1] for row in (yield from DEAD())}
    ((waiting, first),) = yield from WAITING()
    ids = sorted({id for id in (first, *(row[4] for row in counts.values())) if id is not None})
    occurred = {row[0]: read_time(row[1]) for row in (yield from OCCURRED(ids=Json(ids)))} if ids else {}

    def one(name: str) -> HandlerStatus:
        _, pattern, created_at, seen_at = known.get(name, (name, None, None, None))
        _, pending, retry, running, oldest, due = counts.get(name, (name, 0, 0, 0, None, None))
        due_at = read_time_or_none(due)
        return HandlerStatus(
            name=name,
            pattern=pattern,
            created_at=read_time_or_none(created_at),
            seen_at=read_time_or_none(seen_at),
            pending=int(pending),
            retry=int(retry),
            running=int(running),
            dead=dead.get(name, 0),
            oldest_at=occurred.get(oldest or ""),
            lag=max((clock - due_at).total_seconds(), 0.0) if due_at is not None else 0.0,
        )

    names = sorted(known.keys() | counts.keys() | dead.keys())
    return OutboxStatus(
        now=clock, waiting=waiting, oldest_at=occurred.get(first or ""), handlers=tuple(one(name) for name in names)
    )
