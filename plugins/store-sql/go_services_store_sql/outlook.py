"""What decides when credentials are renewed: listed for forecasts, and by what is due, without their ciphertexts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Literal

from go_services_core.model import Page, Scope
from go_services_core.outlook import CredentialFacts, Outlook
from go_services_core.refreshes import RefreshHistory

from . import connections
from .dialect import read_time, read_time_or_none
from .statement import Row, Statement, Steps

_OWN: Final = len(connections.COLUMNS)
_BEGINNING: Final = (datetime(1970, 1, 1, tzinfo=UTC), "")
_COLUMNS: Final = ", ".join(f"connection.{column.column_name}" for column in connections.COLUMNS)
_TRIED: Final = "FROM service_refresh_intents WHERE connection_id = connection.id AND version = credential.version"
# What was tried matters only where something went wrong; elsewhere the intents are not looked at.
_SELECT: Final = f"""SELECT {_COLUMNS}, credential.id, credential.version, credential.expires_at,
      credential.refresh_expires_at, credential.refreshable, credential.created_at,
      CASE WHEN refresh_state <> 'ok' THEN (SELECT count(*) {_TRIED} AND outcome = 'failed') END,
      CASE WHEN refresh_state <> 'ok' THEN (SELECT max(@remaining(retry_at)) {_TRIED} AND outcome = 'failed') END,
      CASE WHEN refresh_state <> 'ok' THEN (SELECT count(*) {_TRIED} AND outcome = 'unknown') END,
      CASE WHEN refresh_state <> 'ok' THEN (SELECT min(@remaining(sent_at)) {_TRIED} AND outcome = 'unknown') END"""


def _outlook_of(row: Row) -> Outlook:
    id, version, expires_at, refresh_expires_at, refreshable, created_at = row[_OWN : _OWN + 6]
    failed, retry_in, unknown, until_sent = row[_OWN + 6 :]
    facts = None
    if id is not None:
        facts = CredentialFacts(
            id=id,
            version=version,
            expires_at=read_time_or_none(expires_at),
            refresh_expires_at=read_time_or_none(refresh_expires_at),
            refreshable=bool(refreshable),
            created_at=read_time(created_at),
        )
    return Outlook(
        connection=connections.connection_of(row[:_OWN]),
        credential=facts,
        history=RefreshHistory(
            failed=failed or 0,
            retry_in=max(0.0, float(retry_in or 0.0)),
            unknown=unknown or 0,
            unknown_age=max(0.0, -float(until_sent or 0.0)),
        ),
    )


@cache
def _listing(filters: frozenset[str]) -> Statement[Outlook]:
    wanted = "".join(f" AND {name} = :{name}" for name in sorted(filters))
    return Statement(
        f"""{_SELECT}
        FROM service_connections AS connection
        LEFT JOIN service_credentials AS credential
          ON credential.connection_id = connection.id AND credential.status = 'active'
        WHERE connection.deleted_at IS NULL AND connection.status <> 'disconnected' AND connection.id > :after{wanted}
        ORDER BY connection.id LIMIT :rows""",
        _outlook_of,
    )


def _due(column: str) -> Statement[Outlook]:
    # SQLite keeps the order of a CROSS JOIN; else it would begin with every connection of the provider, and sort.
    place = f"(credential.{column}, credential.connection_id)"
    return Statement(
        f"""{_SELECT}
        FROM service_credentials AS credential
        CROSS JOIN service_connections AS connection
        WHERE connection.id = credential.connection_id
          AND credential.status = 'active' AND credential.refreshable
          AND credential.{column} < :before AND {place} > (:at, :id)
          AND connection.provider_id = :provider_id AND connection.status = 'active' AND connection.deleted_at IS NULL
          AND connection.secret_state = 'ok'
          AND NOT EXISTS (SELECT 1 FROM service_leases AS lease WHERE lease.resource = 'refresh:' || connection.id
                          AND lease.owner IS NOT NULL AND lease.expires_at > @now)
        ORDER BY credential.{column}, credential.connection_id LIMIT :rows""",  # noqa: S608
        _outlook_of,
    )


DUE: Final[Mapping[str, Statement[Outlook]]] = {column: _due(column) for column in ("expires_at", "created_at")}


def page(*, provider_id: str | None, scope: Scope | None, after: str | None, limit: int) -> Steps[Page[Outlook]]:
    """Outlooks by connection: one statement, which is compiled once per set of filters."""
    given: dict[str, Any] = {} if provider_id is None else {"provider_id": provider_id}
    if scope is not None:
        given |= {"scope_type": scope.type, "scope_id": scope.id}
    found = yield from _listing(frozenset(given))(**given, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].connection.id if len(found) > limit else None)


def due(
    provider_id: str,
    *,
    by: Literal["expires_at", "created_at"],
    before: datetime,
    after: tuple[datetime, str] | None,
    limit: int,
) -> Steps[list[Outlook]]:
    """Outlooks by the time of ``by``: one statement, which an index serves."""
    at, id = after or _BEGINNING
    return (yield from DUE[by](provider_id=provider_id, before=before, at=at, id=id, rows=limit))
