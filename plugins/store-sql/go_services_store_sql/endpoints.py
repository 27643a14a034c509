"""Endpoints of outgoing webhooks: versioned rows, and their health."""

from __future__ import annotations

from functools import cache
from typing import Any

from peewee import ModelSelect

from go_services_core.endpoints import ENDPOINT_MOVES, Admission, Endpoint
from go_services_core.errors import InvalidTransition, ServicesError, VersionConflict
from go_services_core.model import Event, KeyRef, Page, Scope, Sealed
from go_services_core.resources import predecessors

from .dialect import Json, read_json, read_time, read_time_or_none
from .events import enqueue
from .models import EndpointRow
from .statement import Param, Row, Statement, Steps, insert
from .transitions import from_any, missing, not_allowed

COLUMNS = (
    EndpointRow.id,
    EndpointRow.url,
    EndpointRow.scope_type,
    EndpointRow.scope_id,
    EndpointRow.events,
    EndpointRow.description,
    EndpointRow.ordered,
    EndpointRow.status,
    EndpointRow.status_reason,
    EndpointRow.version,
    EndpointRow.failures,
    EndpointRow.failing_since,
    EndpointRow.open_until,
    EndpointRow.secrets,
    EndpointRow.encryption_backend,
    EndpointRow.encryption_key_id,
    EndpointRow.encryption_version,
    EndpointRow.created_at,
    EndpointRow.updated_at,
)


def _endpoint_of(row: Row) -> Endpoint:
    return Endpoint(
        id=row[0],
        url=row[1],
        scope=None if row[2] is None else Scope(row[2], row[3]),
        events=tuple(read_json(row[4])),
        description=row[5],
        ordered=bool(row[6]),
        status=row[7],
        status_reason=row[8],
        version=row[9],
        failures=row[10],
        failing_since=read_time_or_none(row[11]),
        open_until=read_time_or_none(row[12]),
        secrets=Sealed(bytes(row[13]), KeyRef(row[14], row[15], row[16])),
        created_at=read_time(row[17]),
        updated_at=read_time(row[18]),
    )


_ROWS = EndpointRow.select(*COLUMNS)
GET: Statement[Endpoint] = Statement(_ROWS.where(EndpointRow.id == Param("id")), _endpoint_of)
INSERT: Statement[Endpoint] = Statement(
    insert(EndpointRow), _endpoint_of, tail="ON CONFLICT DO NOTHING RETURNING @columns", columns=COLUMNS
)
REPLACE: Statement[Endpoint] = Statement(
    from_any(
        """UPDATE service_webhook_endpoints SET url = :url, events = :events, description = :description,
          ordered = :ordered, status_reason = :status_reason, version = version + 1, secrets = :secrets,
          encryption_backend = :encryption_backend, encryption_key_id = :encryption_key_id,
          encryption_version = :encryption_version, updated_at = :updated_at,
          failures = CASE WHEN :status = 'active' AND status <> 'active' THEN 0 ELSE failures END,
          failing_since = CASE WHEN :status = 'active' AND status <> 'active' THEN NULL ELSE failing_since END,
          open_until = CASE WHEN :status = 'active' AND status <> 'active' THEN NULL ELSE open_until END,
          status = :status
        WHERE id = :id AND version = :version AND status @before
        RETURNING @columns"""
    ),
    _endpoint_of,
    columns=COLUMNS,
)
REMOVE: Statement[Row] = Statement("DELETE FROM service_webhook_endpoints WHERE id = :id RETURNING id")
STATE: Statement[tuple[Endpoint, float | None]] = Statement(
    "SELECT @columns, @remaining(open_until) FROM service_webhook_endpoints WHERE id = :id",
    lambda row: (_endpoint_of(row[:-1]), None if row[-1] is None else float(row[-1])),
    columns=COLUMNS,
)
TRY: Statement[Row] = Statement(
    """UPDATE service_webhook_endpoints SET open_until = @later(seconds)
    WHERE id = :id AND open_until <= @now RETURNING id"""
)
WELL: Statement[Row] = Statement(
    """UPDATE service_webhook_endpoints SET failures = 0, failing_since = NULL, open_until = NULL
    WHERE id = :id AND (failures > 0 OR open_until IS NOT NULL) RETURNING id"""
)
FAILED: Statement[float] = Statement(
    """UPDATE service_webhook_endpoints SET failures = failures + 1, failing_since = coalesce(failing_since, @now),
      open_until = CASE WHEN failures + 1 >= :threshold THEN @later(pause) ELSE open_until END
    WHERE id = :id RETURNING @remaining(failing_since)""",
    lambda row: max(0.0, -float(row[0])),
)


def save(wanted: Endpoint, *, expected_version: int | None, event: Event | None) -> Steps[Endpoint]:
    """One statement, and one for the event. Raises VersionConflict, InvalidTransition or NotFound."""
    if expected_version is None:
        saved = yield from _insert(wanted)
    else:
        saved = yield from _replace(wanted, expected_version)
    if event is not None:
        yield from enqueue(event)
    return saved


def _values(wanted: Endpoint) -> dict[str, Any]:
    return {
        "id": wanted.id,
        "url": wanted.url,
        "events": Json(list(wanted.events)),
        "description": wanted.description,
        "ordered": wanted.ordered,
        "status": wanted.status,
        "status_reason": wanted.status_reason,
        "secrets": wanted.secrets.ciphertext,
        "encryption_backend": wanted.secrets.key.backend,
        "encryption_key_id": wanted.secrets.key.key_id,
        "encryption_version": wanted.secrets.key.key_version,
        "updated_at": wanted.updated_at,
    }


def _insert(wanted: Endpoint) -> Steps[Endpoint]:
    if wanted.status != "active":
        raise InvalidTransition(f"A new endpoint is active, not {wanted.status}.", field="endpoint.status")
    saved = yield from INSERT.first(
        **_values(wanted),
        scope_type=None if wanted.scope is None else wanted.scope.type,
        scope_id=None if wanted.scope is None else wanted.scope.id,
        version=1,
        failures=0,
        failing_since=None,
        open_until=None,
        created_at=wanted.created_at,
    )
    if saved is None:
        raise _changed((yield from GET.first(id=wanted.id)))
    return saved


def _replace(wanted: Endpoint, version: int) -> Steps[Endpoint]:
    before = predecessors(ENDPOINT_MOVES, wanted.status)
    saved = yield from REPLACE.first(**_values(wanted), version=version, before=Json(sorted(before)))
    if saved is None:
        raise (yield from _why_not(wanted, version))
    return saved


def _why_not(wanted: Endpoint, version: int) -> Steps[ServicesError]:
    found = yield from GET.first(id=wanted.id)
    if found is None:
        return missing("endpoint", wanted.id)
    if found.version != version:
        return _changed(found)
    return not_allowed("endpoint", found.id, found.status, wanted.status)


def _changed(found: Endpoint | None) -> VersionConflict:
    metadata = {} if found is None else {"endpoint_id": found.id, "version": found.version}
    return VersionConflict("Another writer was first: the endpoint has another version.", metadata=metadata)


def get(endpoint_id: str) -> Steps[Endpoint | None]:
    """The endpoint."""
    return (yield from GET.first(id=endpoint_id))


@cache
def _listing(filters: frozenset[str]) -> Statement[Endpoint]:
    query: ModelSelect[Any] = _ROWS.where(EndpointRow.id > Param("after"))
    if "scope_type" in filters:
        query = query.where(EndpointRow.scope_type == Param("scope_type"), EndpointRow.scope_id == Param("scope_id"))
    if "hearing_type" in filters:
        own = (EndpointRow.scope_type == Param("hearing_type")) & (EndpointRow.scope_id == Param("hearing_id"))
        query = query.where(own | EndpointRow.scope_type.is_null(), EndpointRow.status != "disabled")
    if "status" in filters:
        query = query.where(EndpointRow.status == Param("status"))
    return Statement(query.order_by(EndpointRow.id), _endpoint_of, tail="LIMIT :rows")


def page(
    *, scope: Scope | None, hearing: Scope | None, status: str | None, after: str | None, limit: int
) -> Steps[Page[Endpoint]]:
    """Endpoints by id, one statement, which is compiled once per set of filters."""
    filters = {
        "scope_type": scope and scope.type,
        "scope_id": scope and scope.id,
        "hearing_type": hearing and hearing.type,
        "hearing_id": hearing and hearing.id,
        "status": status,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    found = yield from _listing(frozenset(given))(**given, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)


def remove(endpoint_id: str, *, event: Event | None) -> Steps[bool]:
    """One statement, and one for the event."""
    if (yield from REMOVE.first(id=endpoint_id)) is None:
        return False
    if event is not None:
        yield from enqueue(event)
    return True


def admit(endpoint_id: str, *, seconds: float) -> Steps[Admission]:
    """One statement; a second one once the time of an open circuit is over."""
    found = yield from STATE.first(id=endpoint_id)
    if found is None:
        return Admission(endpoint=None)
    endpoint, left = found
    if left is not None and left > 0:
        return Admission(endpoint=endpoint, wait=left)
    if left is not None and (yield from TRY.first(id=endpoint_id, seconds=seconds)) is None:
        return Admission(endpoint=endpoint, wait=seconds)
    return Admission(endpoint=endpoint)


def report(endpoint_id: str, *, failed: bool, threshold: int, pause: float) -> Steps[float]:
    """One statement."""
    if not failed:
        yield from WELL.first(id=endpoint_id)
        return 0.0
    lasting = yield from FAILED.first(id=endpoint_id, threshold=threshold, pause=pause)
    return lasting or 0.0
