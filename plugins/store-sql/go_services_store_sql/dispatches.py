"""The ledger of notifications: each is sent once to each recipient, and only a sent one counts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from peewee import ModelSelect

from go_services_core.errors import LeaseLost
from go_services_core.model import Page
from go_services_core.resources import Begun, Dispatch, DispatchEntry

from .dialect import Json, read_json, read_time
from .models import DispatchRow
from .statement import Param, Row, Statement, Steps

BEGIN: Statement[Row] = Statement(
    """INSERT INTO service_notification_dispatches (id, event_id, projector, definition_code, recipient_key,
      idempotency_key, status, attempts, owner, expires_at, metadata, created_at, updated_at)
    VALUES (:id, :event_id, :projector, :definition_code, :recipient_key, :key, 'running', 1, :owner, @later(seconds),
      :metadata, @now, @now)
    ON CONFLICT (idempotency_key) DO UPDATE
      SET status = 'running', attempts = service_notification_dispatches.attempts + 1, owner = excluded.owner,
        expires_at = excluded.expires_at, updated_at = excluded.updated_at
      WHERE service_notification_dispatches.status = 'failed'
        OR (service_notification_dispatches.status = 'running' AND service_notification_dispatches.expires_at <= @now)
    RETURNING attempts"""
)
STATE: Statement[Row] = Statement(
    """SELECT status, attempts, @remaining(expires_at) FROM service_notification_dispatches
    WHERE idempotency_key = :key"""
)
FINISH: Statement[Row] = Statement(
    """UPDATE service_notification_dispatches SET status = :status, error = :error, owner = NULL, expires_at = NULL,
      updated_at = @now
    WHERE idempotency_key = :key AND owner = :owner AND attempts = :fence AND status = 'running' RETURNING id"""
)


def _entry_of(row: Row) -> DispatchEntry:
    return DispatchEntry(
        dispatch=Dispatch(
            id=row[0],
            event_id=row[1],
            projector=row[2],
            definition_code=row[3],
            recipient_key=row[4],
            key=row[5],
            metadata=read_json(row[6]),
        ),
        status=row[7],
        attempts=row[8],
        error=row[9],
        created_at=read_time(row[10]),
        updated_at=read_time(row[11]),
    )


@cache
def _listing(filters: frozenset[str]) -> Statement[DispatchEntry]:
    query: ModelSelect[Any] = DispatchRow.select(
        DispatchRow.id,
        DispatchRow.event_id,
        DispatchRow.projector,
        DispatchRow.definition_code,
        DispatchRow.recipient_key,
        DispatchRow.idempotency_key,
        DispatchRow.metadata,
        DispatchRow.status,
        DispatchRow.attempts,
        DispatchRow.error,
        DispatchRow.created_at,
        DispatchRow.updated_at,
    ).where(DispatchRow.id > Param("after"))
    for name in sorted(filters):
        query = query.where(getattr(DispatchRow, name) == Param(name))
    return Statement(query.order_by(DispatchRow.id), _entry_of, tail="LIMIT :rows")


def page(filters: Mapping[str, str | None], *, after: str | None, limit: int) -> Steps[Page[DispatchEntry]]:
    """Notifications by id: one statement, compiled once per set of filters."""
    given = {name: value for name, value in filters.items() if value is not None}
    found = yield from _listing(frozenset(given))(**given, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].dispatch.id if len(found) > limit else None)


def begin(dispatch: Dispatch, *, owner: str, seconds: float) -> Steps[Begun]:
    """One statement where it is new, two where it is not."""
    begun = yield from BEGIN.first(
        id=dispatch.id,
        event_id=dispatch.event_id,
        projector=dispatch.projector,
        definition_code=dispatch.definition_code,
        recipient_key=dispatch.recipient_key,
        key=dispatch.key,
        owner=owner,
        seconds=seconds,
        metadata=Json(dict(dispatch.metadata)),
    )
    if begun is not None:
        return Begun(state="new", fence=begun[0])
    found = yield from STATE.first(key=dispatch.key)
    if found is None:
        return Begun(state="running", fence=0)  # pruned in between: ask again
    status, attempts, left = found
    if status == "sent":
        return Begun(state="done", fence=attempts)
    return Begun(state="running", fence=attempts, retry_in=max(0.0, float(left or 0)))


def finish(key: str, *, owner: str, fence: int, status: str, error: str) -> Steps[None]:
    """One statement. Raises LeaseLost."""
    if (yield from FINISH.first(key=key, owner=owner, fence=fence, status=status, error=error)) is None:
        raise LeaseLost(metadata={"key": key})
