"""Events in the outbox: written by the unit of the change that they announce."""

from __future__ import annotations

from typing import Any

from go_services_core.model import Event, Scope

from .dialect import Json, read_json, read_time, time_text
from .models import OutboxRow
from .statement import Call, Row, Statement, Steps

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


_FIELDS = OutboxRow._meta.sorted_fields
_COLUMNS = ", ".join(field.column_name for field in _FIELDS)
_VALUES = ", ".join(f":{field.column_name}" for field in _FIELDS)
_INSERT = f"INSERT INTO service_lifecycle_outbox ({_COLUMNS}) VALUES ({_VALUES})"  # noqa: S608
# SQLite has no INSERT in a WITH: there a trigger writes into service_pending_events.
INSERT_EVENT: Statement[Row] = Statement(
    {
        "sqlite": _INSERT,
        "postgres": f"""WITH made AS ({_INSERT})
        INSERT INTO service_pending_events (event_id, order_key) VALUES (:event_id, :order_key)""",  # noqa: S608
    }
)


def enqueue(event: Event) -> Steps[None]:
    """Write ``event`` into the outbox: one statement."""
    yield Call(INSERT_EVENT, _values(event), (event,))


def row_of(event: Event) -> list[Any]:
    """The values of ``COLUMNS`` as JSON can hold them: times as text without a zone."""
    return [
        event.id,
        event.name,
        event.source,
        event.provider_id,
        event.scope.type,
        event.scope.id,
        event.connection_id,
        dict(event.payload),
        time_text(event.occurred_at),
        event.order_key,
        event.version,
    ]


def _values(event: Event) -> dict[str, Any]:
    return {
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
        "status": "committed",
        "attempts": 0,
        "next_attempt_at": None,
        "last_error": "",
        "order_key": event.order_key,
        "version": event.version,
        "occurred_at": event.occurred_at,
        "created_at": event.occurred_at,
        "updated_at": event.occurred_at,
    }
