"""Sync cursors: set by one compare-and-set."""

from __future__ import annotations

from go_services_core.errors import BadInput, SyncCursorConflict
from go_services_core.model import Event
from go_services_core.resources import SyncCursor

from . import connections
from .dialect import Json, read_json, read_time, read_time_or_none
from .events import enqueue
from .models import CursorRow
from .statement import Param, Row, Statement, Steps, insert

COLUMNS = (
    CursorRow.id,
    CursorRow.connection_id,
    CursorRow.provider_id,
    CursorRow.resource_type,
    CursorRow.resource_id,
    CursorRow.cursor,
    CursorRow.status,
    CursorRow.last_synced_at,
    CursorRow.metadata,
    CursorRow.created_at,
    CursorRow.updated_at,
)


def _cursor_of(row: Row) -> SyncCursor:
    return SyncCursor(
        id=row[0],
        connection_id=row[1],
        provider_id=row[2],
        resource_type=row[3],
        resource_id=row[4],
        cursor=row[5],
        status=row[6],
        last_synced_at=read_time_or_none(row[7]),
        metadata=read_json(row[8]),
        created_at=read_time(row[9]),
        updated_at=read_time(row[10]),
    )


GET: Statement[SyncCursor] = Statement(
    CursorRow.select(*COLUMNS).where(
        CursorRow.connection_id == Param("connection_id"),
        CursorRow.provider_id == Param("provider_id"),
        CursorRow.resource_type == Param("resource_type"),
        CursorRow.resource_id == Param("resource_id"),
    ),
    _cursor_of,
)
ADVANCE: Statement[SyncCursor] = Statement(
    """UPDATE service_sync_cursors SET cursor = :cursor, status = :status, metadata = :metadata,
      last_synced_at = coalesce(:last_synced_at, last_synced_at), updated_at = :updated_at
    WHERE connection_id = :connection_id AND provider_id = :provider_id AND resource_type = :resource_type
      AND resource_id = :resource_id AND cursor = :expected
    RETURNING @columns""",
    _cursor_of,
    columns=COLUMNS,
)
BEGIN: Statement[SyncCursor] = Statement(
    insert(CursorRow),
    _cursor_of,
    tail="ON CONFLICT (connection_id, provider_id, resource_type, resource_id) DO NOTHING RETURNING @columns",
    columns=COLUMNS,
)
SET: Statement[SyncCursor] = Statement(
    insert(CursorRow),
    _cursor_of,
    tail="""ON CONFLICT (connection_id, provider_id, resource_type, resource_id)
    DO UPDATE SET cursor = excluded.cursor, status = excluded.status, metadata = excluded.metadata,
      last_synced_at = coalesce(excluded.last_synced_at, service_sync_cursors.last_synced_at),
      updated_at = excluded.updated_at
    RETURNING @columns""",
    columns=COLUMNS,
)


def get(connection_id: str, provider_id: str, resource_type: str, resource_id: str) -> Steps[SyncCursor | None]:
    """How far the resource was read."""
    return (
        yield from GET.first(
            connection_id=connection_id,
            provider_id=provider_id,
            resource_type=resource_type,
            resource_id=resource_id,
        )
    )


def advance(wanted: SyncCursor, *, expected: str | None, event: Event | None) -> Steps[SyncCursor]:
    """One statement from a stored cursor, two for the first one, and one for the event.

    Raises SyncCursorConflict, ConnectionNotFound or BadInput.
    """
    if not wanted.cursor.strip():
        raise BadInput("A cursor may not be blank.", field="cursor.cursor")
    values = {
        "connection_id": wanted.connection_id,
        "provider_id": wanted.provider_id,
        "resource_type": wanted.resource_type,
        "resource_id": wanted.resource_id,
        "cursor": wanted.cursor,
        "status": wanted.status,
        "last_synced_at": wanted.last_synced_at,
        "metadata": Json(dict(wanted.metadata)),
        "updated_at": wanted.updated_at,
    }
    if expected:
        saved = yield from ADVANCE.first(**values, expected=expected)
    else:
        yield from connections.get(wanted.connection_id)
        statement = SET if expected is None else BEGIN
        saved = yield from statement.first(**values, id=wanted.id, created_at=wanted.created_at)
    if saved is None:
        raise SyncCursorConflict(
            metadata={"connection_id": wanted.connection_id, "resource": f"{wanted.resource_type}:{wanted.resource_id}"}
        )
    if event is not None:
        yield from enqueue(event)
    return saved
