"""Grants: a snapshot whenever what was asked or given has changed, and the history of events."""

from __future__ import annotations

from go_services_core.errors import BadInput
from go_services_core.grants import GrantEvent, recorded
from go_services_core.model import Connection, Event, GrantSnapshot, Page, SealedCredential

from .credentials import grants_of
from .dialect import Json, read_json, read_time
from .events import enqueue
from .models import GrantEventRow, GrantSnapshotRow
from .statement import Param, Row, Statement, Steps, insert


def _snapshot_of(row: Row) -> GrantSnapshot:
    requested, granted = grants_of(row[2], row[3])
    return GrantSnapshot(
        connection_id=row[0], version=row[1], requested=requested, granted=granted, captured_at=read_time(row[4])
    )


def _event_of(row: Row) -> GrantEvent:
    requested, granted = grants_of(row[3], row[4])
    return GrantEvent(
        id=row[0],
        connection_id=row[1],
        type=row[2],
        requested=requested,
        granted=granted,
        added=tuple(read_json(row[5])),
        removed=tuple(read_json(row[6])),
        snapshot_version=read_json(row[7]).get("snapshot_version"),
        occurred_at=read_time(row[8]),
    )


_SNAPSHOTS = GrantSnapshotRow.select(
    GrantSnapshotRow.connection_id,
    GrantSnapshotRow.version,
    GrantSnapshotRow.requested_grants,
    GrantSnapshotRow.granted_grants,
    GrantSnapshotRow.captured_at,
).where(GrantSnapshotRow.connection_id == Param("connection_id"))

NEWEST_SNAPSHOT: Statement[GrantSnapshot] = Statement(
    _SNAPSHOTS.order_by(GrantSnapshotRow.version.desc()).limit(1), _snapshot_of
)
SNAPSHOTS: Statement[GrantSnapshot] = Statement(
    _SNAPSHOTS.where(GrantSnapshotRow.version > Param("after")).order_by(GrantSnapshotRow.version),
    _snapshot_of,
    tail="LIMIT :rows",
)
EVENTS: Statement[GrantEvent] = Statement(
    GrantEventRow.select(
        GrantEventRow.id,
        GrantEventRow.connection_id,
        GrantEventRow.event_type,
        GrantEventRow.requested_grants,
        GrantEventRow.granted_grants,
        GrantEventRow.added_grants,
        GrantEventRow.removed_grants,
        GrantEventRow.metadata,
        GrantEventRow.created_at,
    )
    .where(GrantEventRow.connection_id == Param("connection_id"), GrantEventRow.id > Param("after"))
    .order_by(GrantEventRow.id),
    _event_of,
    tail="LIMIT :rows",
)
INSERT_SNAPSHOT: Statement[Row] = Statement(insert(GrantSnapshotRow))
INSERT_GRANT_EVENT: Statement[Row] = Statement(insert(GrantEventRow))


def snapshots(connection_id: str, *, after: str | None, limit: int) -> Steps[Page[GrantSnapshot]]:
    """A page by version. Raises BadInput."""
    if after is not None and not after.isdecimal():
        raise BadInput(f"{after!r} is not the `next` of a page.", field="after")
    found = yield from SNAPSHOTS(connection_id=connection_id, after=int(after or 0), rows=limit + 1)
    return Page(tuple(found[:limit]), str(found[limit - 1].version) if len(found) > limit else None)


def history(connection_id: str, *, after: str | None, limit: int) -> Steps[Page[GrantEvent]]:
    """A page of events by id."""
    found = yield from EVENTS(connection_id=connection_id, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)


def record_grants(
    connection: Connection, new: SealedCredential, *, cause: Event, completes: bool = False
) -> Steps[list[GrantEvent]]:
    """Write what a new credential changes: a statement, one more for a snapshot, and two for each event."""
    newest = yield from NEWEST_SNAPSHOT.first(connection_id=connection.id)
    snapshot, events = recorded(newest, new, cause=cause, completes=completes)
    if snapshot is not None:
        yield from INSERT_SNAPSHOT(
            id=f"{connection.id}:{snapshot.version}",
            connection_id=connection.id,
            provider_id=connection.provider_id,
            scope_type=connection.scope.type,
            scope_id=connection.scope.id,
            version=snapshot.version,
            requested_grants=Json(snapshot.requested),
            granted_grants=Json(snapshot.granted),
            metadata=Json({}),
            captured_at=snapshot.captured_at,
            created_at=snapshot.captured_at,
            updated_at=snapshot.captured_at,
        )
    for event in events:
        yield from record_event(connection, event)
    return events


def record_event(connection: Connection, event: GrantEvent) -> Steps[None]:
    """A line of the history, and the durable event that announces it."""
    yield from INSERT_GRANT_EVENT(
        id=event.id,
        connection_id=connection.id,
        provider_id=connection.provider_id,
        scope_type=connection.scope.type,
        scope_id=connection.scope.id,
        event_type=event.type,
        requested_grants=Json(event.requested),
        granted_grants=Json(event.granted),
        added_grants=Json(event.added),
        removed_grants=Json(event.removed),
        metadata=Json({"snapshot_version": event.snapshot_version}),
        created_at=event.occurred_at,
    )
    yield from enqueue(event.announced(connection.provider_id, connection.scope))
