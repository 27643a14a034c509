"""The outbox: committed events, each with a delivery of its own per durable handler.

An item's id is ``EVENT:HANDLER``, or the event's id alone while no handler has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from go_services_core.model import Claim, Page, QueueItem

from . import events
from .dialect import Json, read_time
from .events import event_of
from .statement import Row, Statement, Steps

SETTLED = {"done": "delivered", "retry": "retry_ready", "dead": "dead"}


def item_id(event_id: str, handler: str | None) -> str:
    """The id under which the outbox shows one handler's delivery of an event."""
    return event_id if handler is None else f"{event_id}:{handler}"


def _item_of(row: Row) -> QueueItem:
    return QueueItem(
        id=item_id(row[0], row[1]),
        queue="outbox",
        handler=row[1],
        status=row[2],
        attempts=row[3],
        provider_id=row[4],
        name=row[5],
        error=row[6],
        created_at=read_time(row[7]),
    )


REGISTER: Statement[Row] = Statement(
    """INSERT INTO service_event_handlers (name, pattern, created_at) VALUES (:name, :pattern, :now)
    ON CONFLICT (name) DO UPDATE SET pattern = excluded.pattern"""
)
HANDLERS: Statement[Row] = Statement("SELECT name, pattern, created_at FROM service_event_handlers")
TAKE_PENDING: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_lifecycle_outbox SET status = 'processing', updated_at = @now
        WHERE event_id IN (
          SELECT event_id FROM service_lifecycle_outbox WHERE status = 'pending' ORDER BY event_id LIMIT :rows)
        RETURNING event_id, event_name, occurred_at""",
    }
)
DELIVER: Statement[Row] = Statement(
    {
        "sqlite": """INSERT INTO service_event_deliveries (event_id, handler, status, next_attempt_at, updated_at)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), 'pending', @now, @now
        FROM json_each(:pairs) WHERE true
        ON CONFLICT (event_id, handler) DO NOTHING""",
    }
)
UNHEARD: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_lifecycle_outbox SET status = 'delivered', updated_at = @now
        WHERE event_id IN (SELECT value FROM json_each(:ids))""",
    }
)
CLAIM: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_event_deliveries SET status = 'processing', owner = :owner, fence = fence + 1,
          attempts = attempts + 1, next_attempt_at = @later(seconds), updated_at = @now
        WHERE (event_id, handler) IN (
          SELECT event_id, handler FROM service_event_deliveries
          WHERE status IN ('pending', 'retry_ready', 'processing') AND next_attempt_at <= @now
            AND handler IN (SELECT value FROM json_each(:handlers))
          ORDER BY next_attempt_at, event_id LIMIT :rows)
        RETURNING event_id, handler, fence, attempts""",
    }
)
EVENTS: Statement[Row] = Statement(
    {
        "sqlite": """SELECT @columns FROM service_lifecycle_outbox
        WHERE event_id IN (SELECT value FROM json_each(:ids))""",
    },
    columns=events.COLUMNS,
)
HEARTBEAT: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_event_deliveries SET next_attempt_at = @later(seconds)
        FROM json_each(:held) AS held
        WHERE event_id = json_extract(held.value, '$[0]') AND handler = json_extract(held.value, '$[1]')
          AND owner = json_extract(held.value, '$[2]') AND fence = json_extract(held.value, '$[3]')
          AND status = 'processing'
        RETURNING event_id, handler""",
    }
)
SETTLE: Statement[Row] = Statement(
    """UPDATE service_event_deliveries SET status = :status, owner = NULL,
      next_attempt_at = CASE WHEN :status = 'retry_ready' THEN @later(delay) END,
      last_error = :error, updated_at = @now
    WHERE event_id = :event_id AND handler = :handler AND owner = :owner AND fence = :fence
      AND status = 'processing'
    RETURNING event_id"""
)
DELIVERED: Statement[Row] = Statement(
    """UPDATE service_lifecycle_outbox SET status = 'delivered', updated_at = @now
    WHERE event_id = :event_id AND NOT EXISTS (
      SELECT 1 FROM service_event_deliveries WHERE event_id = :event_id AND status <> 'delivered')"""
)
REQUEUE: Statement[Row] = Statement(
    """UPDATE service_event_deliveries SET status = 'pending', attempts = 0, next_attempt_at = @now, updated_at = @now
    WHERE event_id = :event_id AND (:handler = '' OR handler = :handler) AND status = 'dead' RETURNING event_id"""
)
LIST: Statement[QueueItem] = Statement(
    """SELECT e.event_id, d.handler, coalesce(d.status, e.status), coalesce(d.attempts, 0), e.provider_id,
      e.event_name, coalesce(d.last_error, ''), e.created_at
    FROM service_lifecycle_outbox AS e LEFT JOIN service_event_deliveries AS d ON d.event_id = e.event_id
    WHERE e.event_id >= :event_id AND (e.event_id, coalesce(d.handler, '')) > (:event_id, :handler)
      AND (:status = '' OR coalesce(d.status, e.status) = :status)
    ORDER BY e.event_id, coalesce(d.handler, '') LIMIT :rows""",
    _item_of,
)


def register(handlers: Mapping[str, str], *, now: datetime) -> Steps[None]:
    """Make handlers known; a known one keeps its time and takes the new pattern."""
    for name, pattern in sorted(handlers.items()):
        yield from REGISTER(name=name, pattern=pattern, now=now)


def claim(*, owner: str, seconds: float, limit: int, handlers: Sequence[str]) -> Steps[list[Claim]]:
    """Hand new events to their handlers, then take what is due for ``handlers``.

    Two statements where nothing is due, one more with claims, two or three more with new events.
    """
    yield from _fan_out(limit)
    taken = yield from CLAIM(owner=owner, seconds=seconds, rows=limit, handlers=Json(list(handlers)))
    if not taken:
        return []
    rows = yield from EVENTS(ids=Json(sorted({row[0] for row in taken})))
    found = {row[0]: event_of(row) for row in rows}
    claims = [
        Claim(
            queue="outbox",
            id=item_id(event_id, handler),
            owner=owner,
            fence=fence,
            attempt=attempts,
            event=found[event_id],
            handler=handler,
        )
        for event_id, handler, fence, attempts in taken
    ]
    return sorted(claims, key=lambda claim: claim.id)  # RETURNING has no order


def _fan_out(limit: int) -> Steps[None]:
    pending = yield from TAKE_PENDING(rows=max(limit, 100))
    if not pending:
        return
    known = [(name, pattern, read_time(since)) for name, pattern, since in (yield from HANDLERS())]
    pairs = [
        [event_id, name]
        for event_id, event_name, occurred_at in pending
        for name, pattern, since in known
        if since <= read_time(occurred_at) and fnmatchcase(event_name, pattern)
    ]
    if pairs:
        yield from DELIVER(pairs=Json(pairs))
    unheard = sorted({row[0] for row in pending} - {event_id for event_id, _ in pairs})
    if unheard:
        yield from UNHEARD(ids=Json(unheard))


def _key(claim: Claim) -> dict[str, Any]:
    event_id, _, handler = claim.id.partition(":")
    return {"event_id": event_id, "handler": handler, "owner": claim.owner, "fence": claim.fence}


def heartbeat(claims: Sequence[Claim], *, seconds: float) -> Steps[list[str]]:
    """Extend the leases: one statement. Gives the ids that are lost."""
    held = Json([list(_key(claim).values()) for claim in claims])
    kept = {item_id(*row) for row in (yield from HEARTBEAT(held=held, seconds=seconds))}
    return [claim.id for claim in claims if claim.id not in kept]


def settle(claim: Claim, outcome: str, *, error: str, delay: float) -> Steps[bool]:
    """End the claim, and with the last one the event; False when it is not held any more."""
    key = _key(claim)
    if (yield from SETTLE.first(**key, status=SETTLED[outcome], error=error, delay=delay)) is None:
        return False
    if outcome == "done":
        yield from DELIVERED(event_id=key["event_id"])
    return True


def requeue(id: str, *, handler: str | None) -> Steps[bool]:
    """Make dead deliveries due again: of one handler, or of all for an event's id alone."""
    event_id, _, named = id.partition(":")
    return (yield from REQUEUE.first(event_id=event_id, handler=handler or named)) is not None


def page(*, status: str | None, after: str | None, limit: int) -> Steps[Page[QueueItem]]:
    """Deliveries by event and handler; an event that no handler has is one item."""
    event_id, _, handler = (after or "").partition(":")
    found = yield from LIST(event_id=event_id, handler=handler, status=status or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)
