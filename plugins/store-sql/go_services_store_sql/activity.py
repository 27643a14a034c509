"""The activity log: entries are written once and read newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import peewee as pw

from go_services_core.errors import BadInput
from go_services_core.model import Page, Scope
from go_services_core.resources import Activity

from .dialect import Json, read_json, read_time
from .models import ActivityRow
from .statement import Param, Row, Statement, Steps, insert

COLUMNS = (
    ActivityRow.id,
    ActivityRow.provider_id,
    ActivityRow.scope_type,
    ActivityRow.scope_id,
    ActivityRow.connection_id,
    ActivityRow.installation_id,
    ActivityRow.subscription_id,
    ActivityRow.sync_job_id,
    ActivityRow.channel,
    ActivityRow.action,
    ActivityRow.object_type,
    ActivityRow.object_id,
    ActivityRow.actor,
    ActivityRow.actor_type,
    ActivityRow.status,
    ActivityRow.metadata,
    ActivityRow.created_at,
)


def _entry_of(row: Row) -> Activity:
    return Activity(
        id=row[0],
        provider_id=row[1],
        scope=Scope(row[2], row[3]),
        connection_id=row[4],
        installation_id=row[5],
        subscription_id=row[6],
        sync_job_id=row[7],
        channel=row[8],
        action=row[9],
        object_type=row[10],
        object_id=row[11],
        actor=row[12],
        actor_type=row[13],
        status=row[14],
        metadata=read_json(row[15]),
        created_at=read_time(row[16]),
    )


INSERT: Statement[Row] = Statement(insert(ActivityRow), tail="ON CONFLICT (id) DO NOTHING RETURNING id")


def record(entries: Sequence[Activity]) -> Steps[int]:
    """Keep what is new: one statement an entry."""
    kept = 0
    for entry in entries:
        inserted = yield from INSERT.first(
            id=entry.id,
            provider_id=entry.provider_id,
            scope_type=entry.scope.type,
            scope_id=entry.scope.id,
            connection_id=entry.connection_id,
            installation_id=entry.installation_id,
            subscription_id=entry.subscription_id,
            sync_job_id=entry.sync_job_id,
            channel=entry.channel,
            action=entry.action,
            object_type=entry.object_type,
            object_id=entry.object_id,
            actor=entry.actor,
            actor_type=entry.actor_type,
            status=entry.status,
            metadata=Json(dict(entry.metadata)),
            created_at=entry.created_at,
        )
        kept += inserted is not None
    return kept


@cache
def _listing(filters: frozenset[str]) -> Statement[Activity]:
    query: pw.ModelSelect[Any] = ActivityRow.select(*COLUMNS)
    for name in sorted(filters - {"since", "until", "before"}):
        query = query.where(getattr(ActivityRow, name) == Param(name))
    if "since" in filters:
        query = query.where(ActivityRow.created_at >= Param("since"))
    if "until" in filters:
        query = query.where(ActivityRow.created_at < Param("until"))
    if "before" in filters:
        query = query.where(pw.Tuple(ActivityRow.created_at, ActivityRow.id) < pw.Tuple(Param("at"), Param("before")))
    return Statement(
        query.order_by(ActivityRow.created_at.desc(), ActivityRow.id.desc()), _entry_of, tail="LIMIT :rows"
    )


def page(
    *,
    provider_id: str | None,
    scope: Scope | None,
    connection_id: str | None,
    action: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    after: str | None,
    limit: int,
) -> Steps[Page[Activity]]:
    """Entries, newest first: one statement, which is compiled once per set of filters. Raises BadInput."""
    filters: dict[str, Any] = {
        "provider_id": provider_id,
        "connection_id": connection_id,
        "action": action,
        "status": status,
        "since": since,
        "until": until,
    }
    if scope is not None:
        filters |= {"scope_type": scope.type, "scope_id": scope.id}
    place: dict[str, Any] = {}
    if after is not None:
        place["at"], place["before"] = read_place(after)
        filters["before"] = place["before"]
    given = {name: value for name, value in filters.items() if value is not None}
    found = yield from _listing(frozenset(given))(**given | place, rows=limit + 1)
    shown = found[:limit]
    return Page(tuple(shown), place_of(shown[-1]) if len(found) > limit else None)


def place_of(entry: Activity) -> str:
    """Where a page ends: the time and the id of its last entry."""
    return f"{entry.created_at.isoformat()} {entry.id}"


def read_place(after: str) -> tuple[datetime, str]:
    """The time and the id. Raises BadInput."""
    time, _, id = after.partition(" ")
    try:
        at = datetime.fromisoformat(time)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not id:
        raise BadInput(f"{after!r} is not the `next` of a page of activity.", field="after")
    return at, id
