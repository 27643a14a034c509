"""Units of work on connections: establish, read, list."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from attrs import evolve
from peewee import JOIN, SQL, ModelSelect, fn

from go_services_core.errors import AccountMismatch, ConnectionNotFound, VersionConflict
from go_services_core.model import (
    Connection,
    Establish,
    Event,
    GrantSnapshot,
    Page,
    Scope,
    SealedCredential,
    SecretState,
)
from go_services_core.states import may_become

from . import credentials
from .credentials import credential_of, insert_credential
from .dialect import read_time
from .events import enqueue
from .grants import NEWEST_SNAPSHOT, record_grants
from .models import ConnectionRow, CredentialRow
from .statement import Param, Row, Statement, Steps, insert
from .transitions import among, not_allowed

COLUMNS = (
    ConnectionRow.id,
    ConnectionRow.provider_id,
    ConnectionRow.auth_kind,
    ConnectionRow.scope_type,
    ConnectionRow.scope_id,
    ConnectionRow.external_account_id,
    ConnectionRow.status,
    ConnectionRow.refresh_state,
    ConnectionRow.secret_state,
    ConnectionRow.inherits_from_connection_id,
    ConnectionRow.last_error,
    ConnectionRow.created_at,
    ConnectionRow.updated_at,
)


def connection_of(row: Row) -> Connection:
    """The connection in a row of ``COLUMNS``."""
    return Connection(
        id=row[0],
        provider_id=row[1],
        auth_kind=row[2],
        scope=Scope(row[3], row[4]),
        external_account_id=row[5],
        status=row[6],
        refresh_state=row[7],
        secret_state=row[8],
        inherits_from=row[9],
        last_error=row[10],
        created_at=read_time(row[11]),
        updated_at=read_time(row[12]),
    )


def _loaded(row: Row) -> tuple[Connection, SealedCredential | None]:
    connection, credential = row[: len(COLUMNS)], row[len(COLUMNS) :]
    return connection_of(connection), None if credential[0] is None else credential_of(credential)


_ACTIVE = (CredentialRow.connection_id == ConnectionRow.id) & (CredentialRow.status == "active")

GET: Statement[Connection] = Statement(
    ConnectionRow.select(*COLUMNS).where(ConnectionRow.id == Param("id"), ConnectionRow.deleted_at.is_null()),
    connection_of,
)
LOAD: Statement[tuple[Connection, SealedCredential | None]] = Statement(
    ConnectionRow.select(*COLUMNS, *credentials.COLUMNS)
    .join(CredentialRow, JOIN.LEFT_OUTER, on=_ACTIVE)
    .where(ConnectionRow.id == Param("id"), ConnectionRow.deleted_at.is_null()),
    _loaded,
)
ACCOUNT: Statement[Row] = Statement(
    ConnectionRow.select(ConnectionRow.id, fn.COALESCE(fn.MAX(CredentialRow.version), 0))
    .join(CredentialRow, JOIN.LEFT_OUTER, on=CredentialRow.connection_id == ConnectionRow.id)
    .where(
        ConnectionRow.provider_id == Param("provider_id"),
        ConnectionRow.scope_type == Param("scope_type"),
        ConnectionRow.scope_id == Param("scope_id"),
        ConnectionRow.external_account_id == Param("external_account_id"),
        ConnectionRow.deleted_at.is_null(),
    )
    .group_by(ConnectionRow.id)
)
CONNECT: Statement[Connection] = Statement(
    insert(ConnectionRow),
    connection_of,
    tail="""ON CONFLICT (provider_id, scope_type, scope_id, external_account_id) WHERE deleted_at IS NULL
    DO UPDATE SET status = 'active', auth_kind = excluded.auth_kind, refresh_state = 'ok', secret_state = 'ok',
      last_error = '', updated_at = excluded.updated_at
    RETURNING @columns""",
    columns=COLUMNS,
)
LOCK: Statement[Row] = Statement(
    {
        "sqlite": "",
        "postgres": "SELECT 1 FROM service_connections WHERE id = :connection_id FOR NO KEY UPDATE",
    }
)
"""What changes a connection and its credentials takes this lock first, or the same one by updating the connection."""
REQUIRE_RECONSENT: Statement[Connection] = Statement(
    among(
        may_become("needs_reconsent"),
        """UPDATE service_connections SET status = 'needs_reconsent', refresh_state = 'ok', last_error = :reason,
      updated_at = @now
    WHERE id = :id AND deleted_at IS NULL AND status @before RETURNING @columns""",
    ),
    connection_of,
    columns=COLUMNS,
)


def missing(connection_id: str) -> ConnectionNotFound:
    """The error for an id without a connection."""
    return ConnectionNotFound(
        f"There is no connection {connection_id!r}.",
        hint="`go-services connections list` shows them.",
        metadata={"connection_id": connection_id},
    )


def get(connection_id: str) -> Steps[Connection]:
    """Raises ConnectionNotFound."""
    found = yield from GET.first(id=connection_id)
    if found is None:
        raise missing(connection_id)
    return found


def load(connection_id: str) -> Steps[tuple[Connection, SealedCredential | None]]:
    """Connection and active credential: one statement. Raises ConnectionNotFound."""
    found = yield from LOAD.first(id=connection_id)
    if found is None:
        raise missing(connection_id)
    return found


def next_version(provider_id: str, scope: Scope, external_account_id: str) -> Steps[tuple[str | None, int]]:
    """The account's connection, if any, and its next credential version: one statement."""
    found = yield from ACCOUNT.first(
        provider_id=provider_id, scope_type=scope.type, scope_id=scope.id, external_account_id=external_account_id
    )
    return (found[0], found[1] + 1) if found is not None else (None, 1)


def establish(change: Establish) -> Steps[tuple[Connection, int]]:
    """Connection, credential, grants and event together. Raises AccountMismatch or VersionConflict."""
    wanted, new = change.connection, change.credential
    known, version = yield from next_version(wanted.provider_id, wanted.scope, wanted.external_account_id)
    if change.expected_connection_id is not None and change.expected_connection_id != known:
        raise AccountMismatch(metadata={"connection_id": change.expected_connection_id})
    connection_id = known if known is not None else wanted.id
    if (new.connection_id, new.version) != (connection_id, version):
        raise _conflict(connection_id, version)
    connection = yield from CONNECT.first(
        id=wanted.id,
        provider_id=wanted.provider_id,
        scope_type=wanted.scope.type,
        scope_id=wanted.scope.id,
        external_account_id=wanted.external_account_id,
        status="active",
        auth_kind=wanted.auth_kind,
        refresh_state="ok",
        secret_state="ok",
        inherits_from_connection_id=wanted.inherits_from,
        last_error="",
        created_at=wanted.created_at,
        updated_at=wanted.updated_at,
        deleted_at=None,
    )
    if connection is None or connection.id != connection_id:
        raise (yield from _overtaken(wanted))
    yield from credentials.SUPERSEDE(connection_id=connection_id)
    if not (yield from insert_credential(new, updated_at=wanted.updated_at)):
        raise (yield from _overtaken(wanted))
    completes = change.expected_connection_id is not None
    yield from record_grants(connection, new, cause=change.event, completes=completes)
    for event in (change.event, *change.also):
        yield from enqueue(evolve(event, connection_id=connection_id))
    return connection, version


def _conflict(connection_id: str, version: int) -> VersionConflict:
    return VersionConflict(metadata={"connection_id": connection_id, "next_version": version})


def _overtaken(wanted: Connection) -> Steps[VersionConflict]:
    """What another transaction has made of the account since this one read it."""
    known, version = yield from next_version(wanted.provider_id, wanted.scope, wanted.external_account_id)
    return _conflict(known if known is not None else wanted.id, version)


def require_reconsent(connection_id: str, *, reason: str, event: Event) -> Steps[Connection]:
    """Status and event together; a second time nothing. Raises InvalidTransition or ConnectionNotFound."""
    changed = yield from REQUIRE_RECONSENT.first(id=connection_id, reason=reason)
    if changed is not None:
        yield from enqueue(event)
        return changed
    connection = yield from get(connection_id)
    if connection.status != "needs_reconsent":
        raise not_allowed("connection", connection_id, connection.status, "needs_reconsent")
    return connection


def grants(connection_id: str) -> Steps[GrantSnapshot | None]:
    """The newest grant snapshot."""
    return (yield from NEWEST_SNAPSHOT.first(connection_id=connection_id))


_SPECIAL = {
    "since": ConnectionRow.created_at >= Param("since"),
    "until": ConnectionRow.created_at < Param("until"),
    # The index on these is found by its own condition only, not by a value.
    "unreadable": SQL("secret_state <> 'ok'"),
}


@cache
def _listing(filters: frozenset[str]) -> Statement[Connection]:
    query: ModelSelect[Any] = ConnectionRow.select(*COLUMNS).where(
        ConnectionRow.deleted_at.is_null(), ConnectionRow.id > Param("after")
    )
    for name in sorted(filters):
        query = query.where(_SPECIAL[name] if name in _SPECIAL else getattr(ConnectionRow, name) == Param(name))
    return Statement(query.order_by(ConnectionRow.id), connection_of, tail="LIMIT :rows")


COUNTS: Statement[tuple[str, str, int]] = Statement(
    ConnectionRow.select(ConnectionRow.provider_id, ConnectionRow.status, fn.COUNT(ConnectionRow.id))
    .where(ConnectionRow.deleted_at.is_null())
    .group_by(ConnectionRow.provider_id, ConnectionRow.status),
    lambda row: (str(row[0]), str(row[1]), int(row[2])),
)


def counts() -> Steps[dict[str, dict[str, int]]]:
    """How many connections each provider has in each state, with one statement."""
    found: dict[str, dict[str, int]] = {}
    for provider_id, status, count in (yield from COUNTS()):
        found.setdefault(provider_id, {})[status] = count
    return found


def page(
    *,
    provider_id: str | None,
    scope: Scope | None,
    external_account_id: str | None,
    status: str | None,
    secret_state: SecretState | None,
    since: datetime | None,
    until: datetime | None,
    after: str | None,
    limit: int,
) -> Steps[Page[Connection]]:
    """Connections by id, one statement, which is compiled once per set of filters."""
    filters: dict[str, Any] = {
        "provider_id": provider_id,
        "external_account_id": external_account_id,
        "status": status,
        "secret_state": secret_state,
        "since": since,
        "until": until,
    }
    if secret_state == "unreadable":
        filters["unreadable"] = True
    if scope is not None:
        filters |= {"scope_type": scope.type, "scope_id": scope.id}
    given = {name: value for name, value in filters.items() if value is not None}
    found = yield from _listing(frozenset(given))(**given, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)
