"""Deliveries with what became of them at their handlers, and having them handled once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from go_services_core.deliveries import Delivery, HandlerState
from go_services_core.model import Page, Scope

from .dialect import Json, read_time, read_time_or_none
from .statement import Row, Statement, Steps


def _delivery_of(row: Row) -> Delivery:
    return Delivery(
        id=row[0],
        provider_id=row[1],
        connection_id=row[2],
        scope=None if row[3] is None else Scope(row[3], row[4]),
        delivery_id=row[5],
        event=row[6],
        channel=row[7],
        resource=row[8],
        status=row[9],
        attempts=row[10],
        fence=row[11],
        error=row[12],
        received_at=read_time(row[13]),
        next_attempt_at=read_time_or_none(row[14]),
        passed_on=bool(row[15]),
    )


def _handler_of(row: Row) -> HandlerState:
    return HandlerState(
        handler=row[1],
        status=row[2],
        attempts=row[3],
        fence=row[4],
        error=row[5],
        next_attempt_at=read_time_or_none(row[6]),
        updated_at=read_time(row[7]),
    )


_SELECT: Final = """SELECT id, provider_id, connection_id, scope_type, scope_id, delivery_id, event, channel, resource,
      status, attempts, fence, last_error, received_at, next_attempt_at,
      EXISTS (SELECT 1 FROM service_lifecycle_outbox AS passed WHERE passed.event_id = item.id)
    FROM service_webhook_deliveries AS item"""
_CONDITIONS: Final[Mapping[str, str]] = {
    "provider_id": "provider_id = :provider_id",
    "connection_id": "connection_id = :connection_id",
    "status": "status = :status",
    "event": "event = :event",
    "since": "received_at >= :since",
    "until": "received_at < :until",
    "dead": "id = dead_id",
}
# Both tables have an index of what is dead. The join is by its order: SQLite would go through a provider's deliveries.
_DEAD: Final = """FROM (SELECT id AS dead_id FROM service_webhook_deliveries WHERE status = 'dead' AND id > :after
      UNION SELECT event_id FROM service_event_deliveries WHERE status = 'dead' AND event_id > :after) AS dead
    CROSS JOIN service_webhook_deliveries"""
ONE: Statement[Delivery] = Statement(f"{_SELECT} WHERE id = :id", _delivery_of)
HANDLERS: Statement[Row] = Statement(
    {
        "sqlite": """SELECT event_id, handler, status, attempts, fence, last_error, next_attempt_at, updated_at
        FROM service_event_deliveries WHERE event_id IN (SELECT value FROM json_each(:ids))
        ORDER BY event_id, handler""",
        "postgres": """SELECT event_id, handler, status, attempts, fence, last_error, next_attempt_at, updated_at
        FROM service_event_deliveries WHERE event_id = ANY (ARRAY(SELECT jsonb_array_elements_text(:ids)))
        ORDER BY event_id, handler""",
    }
)
# One that was processed is passed on again only where its event is gone: its id is that of the event.
REARM: Statement[Row] = Statement(
    """UPDATE service_webhook_deliveries SET status = 'pending', attempts = 0, owner = NULL, next_attempt_at = @now,
      burst_key = NULL, burst_until = NULL, updated_at = @now
    WHERE id = :id AND fence = :fence AND (status IN ('dead', 'superseded') OR (status = 'processed'
      AND NOT EXISTS (SELECT 1 FROM service_lifecycle_outbox WHERE event_id = :id)))
    RETURNING id"""
)
DECIDE: Statement[Row] = Statement(
    """UPDATE service_webhook_deliveries SET status = :status,
      next_attempt_at = CASE WHEN :status = 'pending' THEN @now END, updated_at = @now
    WHERE id = :id AND status = 'quarantined' RETURNING id"""
)


@cache
def listing(names: tuple[str, ...]) -> Statement[Delivery]:
    """Deliveries by id, after a place; compiled once per set of filters."""
    conditions = " AND ".join(["id > :after", *(_CONDITIONS[name] for name in names)])
    select = _SELECT.replace("FROM service_webhook_deliveries", _DEAD) if "dead" in names else _SELECT
    return Statement(f"{select} WHERE {conditions} ORDER BY id LIMIT :rows", _delivery_of)


def page(filters: Mapping[str, Any], *, dead: bool, after: str | None, limit: int) -> Steps[Page[Delivery]]:
    """Deliveries by id, with their handlers: two statements."""
    given = {name: value for name, value in filters.items() if value is not None}
    names = (*sorted(given), *(("dead",) if dead else ()))
    found = yield from listing(names)(**given, after=after or "", rows=limit + 1)
    shown = yield from _with_handlers(found[:limit])
    return Page(tuple(shown), shown[-1].id if len(found) > limit else None)


def get(row_id: str) -> Steps[Delivery | None]:
    """One delivery with its handlers: two statements."""
    found = yield from ONE(id=row_id)
    shown = yield from _with_handlers(found)
    return shown[0] if shown else None


def _with_handlers(found: Sequence[Delivery]) -> Steps[list[Delivery]]:
    if not found:
        return []
    handlers: dict[str, list[HandlerState]] = {}
    for row in (yield from HANDLERS(ids=Json([one.id for one in found]))):
        handlers.setdefault(row[0], []).append(_handler_of(row))
    return [one.handled_by(handlers.get(one.id, ())) for one in found]


def rearm(row_id: str, *, fence: int) -> Steps[bool]:
    """Have the delivery passed on anew; False where it is not as it was seen."""
    return (yield from REARM.first(id=row_id, fence=fence)) is not None


def decide(row_id: str, status: str) -> Steps[bool]:
    """End the quarantine of a delivery; False where it is in none."""
    return (yield from DECIDE.first(id=row_id, status=status)) is not None
