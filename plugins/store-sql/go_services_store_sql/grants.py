"""Grant snapshots: a version and an event whenever what was asked or given has changed."""

from __future__ import annotations

from datetime import datetime

from go_services_core.model import Connection, GrantSnapshot

from .credentials import Grants, grants_of
from .dialect import Json, read_time
from .models import GrantEventRow, GrantSnapshotRow
from .statement import Param, Row, Statement, Steps, insert


def _snapshot_of(row: Row) -> GrantSnapshot:
    requested, granted = grants_of(row[2], row[3])
    return GrantSnapshot(
        connection_id=row[0], version=row[1], requested=requested, granted=granted, captured_at=read_time(row[4])
    )


NEWEST_SNAPSHOT: Statement[GrantSnapshot] = Statement(
    GrantSnapshotRow.select(
        GrantSnapshotRow.connection_id,
        GrantSnapshotRow.version,
        GrantSnapshotRow.requested_grants,
        GrantSnapshotRow.granted_grants,
        GrantSnapshotRow.captured_at,
    )
    .where(GrantSnapshotRow.connection_id == Param("connection_id"))
    .order_by(GrantSnapshotRow.version.desc())
    .limit(1),
    _snapshot_of,
)
INSERT_SNAPSHOT: Statement[Row] = Statement(insert(GrantSnapshotRow))
INSERT_GRANT_EVENT: Statement[Row] = Statement(insert(GrantEventRow))


def record_grants(connection: Connection, grants: Grants, *, event_id: str, at: datetime) -> Steps[None]:
    """Write a snapshot and its event if ``grants`` differ from the newest snapshot's: 1 or 3 statements.

    Both rows take their ids from what they belong to, so that running the unit again makes the same rows.
    """
    newest = yield from NEWEST_SNAPSHOT.first(connection_id=connection.id)
    if newest is not None and (newest.requested, newest.granted) == grants:
        return
    requested, granted = grants
    before = set((newest.granted if newest is not None else None) or ())
    after = set(granted or ())
    version = newest.version + 1 if newest is not None else 1
    shared = {
        "connection_id": connection.id,
        "provider_id": connection.provider_id,
        "scope_type": connection.scope.type,
        "scope_id": connection.scope.id,
        "requested_grants": Json(requested),
        "granted_grants": Json(granted),
        "created_at": at,
    }
    yield from INSERT_SNAPSHOT(
        **shared,
        id=f"{connection.id}:{version}",
        version=version,
        metadata=Json({}),
        captured_at=at,
        updated_at=at,
    )
    yield from INSERT_GRANT_EVENT(
        **shared,
        id=f"{event_id}:grants",
        event_type="granted" if newest is None else "changed",
        added_grants=Json(sorted(after - before)),
        removed_grants=Json(sorted(before - after)),
        metadata=Json({"snapshot_version": version}),
    )
