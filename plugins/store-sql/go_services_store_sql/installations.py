"""Installations: one row per provider, scope and install type, until it is uninstalled."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from peewee import ModelSelect

from go_services_core.errors import InvalidTransition, VersionConflict
from go_services_core.model import Event, Page, Scope
from go_services_core.resources import INSTALLATION_MOVES, Installation, allowed_from, predecessors

from .dialect import Json, read_json, read_time, read_time_or_none
from .events import enqueue
from .models import InstallationRow
from .statement import Param, Row, Statement, Steps, insert
from .transitions import from_any, missing, not_allowed

COLUMNS = (
    InstallationRow.id,
    InstallationRow.provider_id,
    InstallationRow.scope_type,
    InstallationRow.scope_id,
    InstallationRow.install_type,
    InstallationRow.status,
    InstallationRow.status_reason,
    InstallationRow.version,
    InstallationRow.granted_at,
    InstallationRow.revoked_at,
    InstallationRow.metadata,
    InstallationRow.created_at,
    InstallationRow.updated_at,
)


def _installation_of(row: Row) -> Installation:
    return Installation(
        id=row[0],
        provider_id=row[1],
        scope=Scope(row[2], row[3]),
        install_type=row[4],
        status=row[5],
        status_reason=row[6],
        version=row[7],
        granted_at=read_time_or_none(row[8]),
        revoked_at=read_time_or_none(row[9]),
        metadata=read_json(row[10]),
        created_at=read_time(row[11]),
        updated_at=read_time(row[12]),
    )


GET: Statement[Installation] = Statement(
    InstallationRow.select(*COLUMNS).where(InstallationRow.id == Param("id")), _installation_of
)
LIVE: Statement[Installation] = Statement(
    """SELECT @columns FROM service_installations
    WHERE provider_id = :provider_id AND scope_type = :scope_type AND scope_id = :scope_id
      AND install_type = :install_type AND status <> 'uninstalled'""",
    _installation_of,
    columns=COLUMNS,
)
INSTALL: Statement[Installation] = Statement(
    insert(InstallationRow),
    _installation_of,
    tail="""ON CONFLICT (provider_id, scope_type, scope_id, install_type) WHERE status <> 'uninstalled'
    DO UPDATE SET status = 'active', status_reason = excluded.status_reason, metadata = excluded.metadata,
      version = service_installations.version + 1, updated_at = excluded.updated_at,
      granted_at = coalesce(excluded.granted_at, service_installations.granted_at),
      revoked_at = coalesce(excluded.revoked_at, service_installations.revoked_at)
    RETURNING @columns""",
    columns=COLUMNS,
)
"""Every live status may become active."""
INSERT: Statement[Installation] = Statement(
    insert(InstallationRow),
    _installation_of,
    tail="""ON CONFLICT (provider_id, scope_type, scope_id, install_type) WHERE status <> 'uninstalled'
    DO NOTHING RETURNING @columns""",
    columns=COLUMNS,
)
CHANGE: Statement[Installation] = Statement(
    from_any(
        """UPDATE service_installations SET status = :status, status_reason = :status_reason, metadata = :metadata,
          version = version + 1, updated_at = :updated_at, granted_at = coalesce(:granted_at, granted_at),
          revoked_at = coalesce(:revoked_at, revoked_at, CASE WHEN :status = 'uninstalled' THEN @now END)
        WHERE provider_id = :provider_id AND scope_type = :scope_type AND scope_id = :scope_id
          AND install_type = :install_type AND status <> 'uninstalled' AND status @before
        RETURNING @columns"""
    ),
    _installation_of,
    columns=COLUMNS,
)
SET_STATUS: Statement[Installation] = Statement(
    from_any(
        """UPDATE service_installations SET status = :status, status_reason = :reason, version = version + 1,
          updated_at = @now, revoked_at = CASE WHEN :status = 'uninstalled' THEN coalesce(revoked_at, @now)
                                          ELSE revoked_at END
        WHERE id = :id AND status @before RETURNING @columns"""
    ),
    _installation_of,
    columns=COLUMNS,
)


def upsert(wanted: Installation, *, live: bool | None, event: Event | None) -> Steps[Installation]:
    """Install, or change what is installed: one statement, and one for the event.

    Raises InvalidTransition or VersionConflict.
    """
    which = {
        "provider_id": wanted.provider_id,
        "scope_type": wanted.scope.type,
        "scope_id": wanted.scope.id,
        "install_type": wanted.install_type,
    }
    values = {
        "status": wanted.status,
        "status_reason": wanted.status_reason,
        "granted_at": wanted.granted_at,
        "revoked_at": wanted.revoked_at,
        "metadata": Json(dict(wanted.metadata)),
        "updated_at": wanted.updated_at,
    }
    before = predecessors(INSTALLATION_MOVES, wanted.status)
    new = {"id": wanted.id, "version": 1, "created_at": wanted.created_at}
    saved = None
    if live is False:
        if wanted.status == "active":
            saved = yield from INSERT.first(**which, **values, **new)
    elif wanted.status == "active" and live is None:
        saved = yield from INSTALL.first(**which, **values, **new)
    else:
        saved = yield from CHANGE.first(**which, **values, before=Json(sorted(before)))
    if saved is None:
        found = yield from LIVE.first(**which)
        if live is not None and (found is not None) is not live:
            raise VersionConflict("Another writer was first: it was installed or uninstalled meanwhile.")
        if found is None:
            raise InvalidTransition(f"A new installation is active, not {wanted.status}.", field="installation.status")
        raise not_allowed("installation", found.id, found.status, wanted.status)
    if event is not None:
        yield from enqueue(event)
    return saved


def get(installation_id: str) -> Steps[Installation | None]:
    """The installation."""
    return (yield from GET.first(id=installation_id))


def set_status(
    installation_id: str, *, expected: Collection[str], status: str, reason: str, event: Event | None
) -> Steps[Installation]:
    """One statement, and one for the event. Raises InvalidTransition or NotFound."""
    before = Json(sorted(allowed_from(INSTALLATION_MOVES, status, expected)))
    moved = yield from SET_STATUS.first(id=installation_id, before=before, status=status, reason=reason)
    if moved is None:
        found = yield from GET.first(id=installation_id)
        if found is None:
            raise missing("installation", installation_id)
        raise not_allowed("installation", installation_id, found.status, status)
    if event is not None:
        yield from enqueue(event)
    return moved


@cache
def _listing(filters: frozenset[str]) -> Statement[Installation]:
    query: ModelSelect[Any] = InstallationRow.select(*COLUMNS).where(InstallationRow.id > Param("after"))
    for name in sorted(filters):
        query = query.where(getattr(InstallationRow, name) == Param(name))
    return Statement(query.order_by(InstallationRow.id), _installation_of, tail="LIMIT :rows")


def page(
    *,
    provider_id: str | None,
    scope: Scope | None,
    install_type: str | None,
    status: str | None,
    after: str | None,
    limit: int,
) -> Steps[Page[Installation]]:
    """Installations by id, one statement, which is compiled once per set of filters."""
    filters = {"provider_id": provider_id, "install_type": install_type, "status": status}
    if scope is not None:
        filters |= {"scope_type": scope.type, "scope_id": scope.id}
    given = {name: value for name, value in filters.items() if value is not None}
    found = yield from _listing(frozenset(given))(**given, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)
