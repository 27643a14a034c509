"""The activity log: entries are written once and read newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import peewee as pw

from go_services_core.errors import BadInput
from go_services_core.model import Page, Scope
from go_services_core.resources import Activity

from .dialect import Json, read_json, read_time, time_text
from .models import ActivityRow
from .statement import Param, Row, Statement, Steps

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


_GIVEN = tuple(column.column_name for column in COLUMNS)


def _insert(given: str, piece: str, others: Mapping[str, str]) -> str:
    values = ", ".join(others.get(name, piece).format(place) for place, name in enumerate(_GIVEN))
    return f"""INSERT INTO service_activity_entries (@columns) SELECT {values} FROM {given}
    WHERE true ON CONFLICT (id) DO NOTHING RETURNING id"""  # noqa: S608


INSERT: Statement[Row] = Statement(
    {
        "sqlite": _insert("json_each(:entries)", "json_extract(value, '$[{0}]')", {}),
        "postgres": _insert(
            "jsonb_array_elements(:entries) AS given (value)",
            "value ->> {0}",
            {"metadata": "value -> {0}", "created_at": "(value ->> {0})::timestamp AT TIME ZONE 'UTC'"},
        ),
    },
    columns=COLUMNS,
)
_PAGE = """SELECT scope_type, scope_id FROM service_activity_entries
    WHERE (scope_type, scope_id) > (:scope_type, :scope_id) ORDER BY scope_type, scope_id LIMIT :rows"""
SCOPES: Statement[Row] = Statement(
    f"SELECT scope_type, scope_id, count(*) FROM ({_PAGE}) AS page GROUP BY scope_type, scope_id "  # noqa: S608
    "ORDER BY scope_type, scope_id"
)
_OVER = """FROM service_activity_entries WHERE scope_type = :scope_type AND scope_id = :scope_id
      AND (created_at, id) <= (SELECT created_at, id FROM service_activity_entries
        WHERE scope_type = :scope_type AND scope_id = :scope_id
        ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET :kept)"""
TRIM: Statement[Row] = Statement(
    f"""DELETE FROM service_activity_entries WHERE id IN (
      SELECT id {_OVER} ORDER BY created_at, id LIMIT :rows) RETURNING id"""  # noqa: S608
)
COUNT_OVER: Statement[Row] = Statement(f"SELECT count(*) {_OVER}")


def record(entries: Sequence[Activity]) -> Steps[int]:
    """Keep what is new: one statement."""
    rows = [
        [
            entry.id,
            entry.provider_id,
            entry.scope.type,
            entry.scope.id,
            entry.connection_id,
            entry.installation_id,
            entry.subscription_id,
            entry.sync_job_id,
            entry.channel,
            entry.action,
            entry.object_type,
            entry.object_id,
            entry.actor,
            entry.actor_type,
            entry.status,
            dict(entry.metadata),
            time_text(entry.created_at),
        ]
        for entry in entries
    ]
    return len((yield from INSERT(entries=Json(rows))))


def trim(*, rows: int, limit: int, after: str, dry_run: bool) -> Steps[tuple[int, str | None]]:
    """Go through the scopes of the next ``limit`` entries: one statement, and one for each scope that has too many."""
    place = after.partition(":")
    found = yield from SCOPES(scope_type=place[0], scope_id=place[2], rows=limit)
    cut_off = sum(row[2] for row in found) == limit  # the last scope may have more than what was read of it
    alone = cut_off and len(found) == 1
    if cut_off and not alone:
        found.pop()
    removed = 0
    for row in found:
        if row[2] > rows or alone:
            scope = {"scope_type": row[0], "scope_id": row[1], "kept": rows}
            if dry_run:
                ((over,),) = yield from COUNT_OVER(**scope)
                removed += over
            else:
                removed += len((yield from TRIM(**scope, rows=limit - removed)))
                if removed == limit:
                    return removed, after
        after = f"{row[0]}:{row[1]}"
    return removed, after if cut_off else None


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
