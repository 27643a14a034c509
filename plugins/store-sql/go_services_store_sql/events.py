"""Events in the outbox: written by the unit of the change that they announce."""

from __future__ import annotations

from typing import Any

from go_services_core.model import Event, Scope

from .dialect import Json, read_json, read_time
from .models import OutboxRow
from .statement import Row, Statement, Steps, insert

COLUMNS = (
    OutboxRow.event_id,
    OutboxRow.event_name,
    OutboxRow.source,
    OutboxRow.provider_id,
    OutboxRow.scope_type,
    OutboxRow.scope_id,
    OutboxRow.connection_id,
    OutboxRow.payload,
    OutboxRow.occurred_at,
    OutboxRow.order_key,
    OutboxRow.version,
)


def event_of(row: Row) -> Event:
    """The event in a row of ``COLUMNS``."""
    return Event(
        id=row[0],
        name=row[1],
        source=row[2],
        provider_id=row[3],
        scope=Scope(row[4], row[5]),
        connection_id=row[6],
        payload=read_json(row[7]),
        occurred_at=read_time(row[8]),
        order_key=row[9],
        version=row[10],
    )


INSERT_EVENT: Statement[Row] = Statement(insert(OutboxRow))


def enqueue(event: Event) -> Steps[None]:
    """Write ``event`` into the outbox: one statement."""
    values: dict[str, Any] = {
        "id": event.id,
        "event_id": event.id,
        "event_name": event.name,
        "source": event.source,
        "provider_id": event.provider_id,
        "scope_type": event.scope.type,
        "scope_id": event.scope.id,
        "connection_id": event.connection_id,
        "payload": Json(dict(event.payload)),
        "metadata": Json({}),
        "status": "pending",
        "attempts": 0,
        "next_attempt_at": None,
        "last_error": "",
        "order_key": event.order_key,
        "version": event.version,
        "occurred_at": event.occurred_at,
        "created_at": event.occurred_at,
        "updated_at": event.occurred_at,
    }
    yield from INSERT_EVENT(**values)
