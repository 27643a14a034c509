"""Outlooks of the memory store: what decides when credentials are renewed."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from attrs import evolve

from ..errors import BadInput
from ..model import Connection, Page, Scope
from ..outlook import CredentialFacts, Outlook
from ..refreshes import RefreshHistory
from .memory_refresh import Refreshes
from .memory_tables import page


class Outlooks(Refreshes):
    """The part of the ``connections`` facet that is about when to renew."""

    async def outlooks(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Outlook]:
        found = [
            (connection.id, connection)
            for connection in self._tables.connections.values()
            if connection.status != "disconnected"
            and provider_id in (None, connection.provider_id)
            and scope in (None, connection.scope)
        ]
        shown = page(found, after, limit)
        return Page(tuple([await self._outlook(connection) for connection in shown.items]), shown.next)

    async def due(
        self,
        provider_id: str,
        *,
        by: Literal["expires_at", "created_at"],
        before: datetime,
        after: tuple[datetime, str] | None = None,
        limit: int = 100,
    ) -> list[Outlook]:
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        found: list[tuple[datetime, str, Connection]] = []
        for connection in self._tables.connections.values():
            credential = self._tables.credential(connection.id)
            if (
                credential is None
                or not credential.refreshable
                or (connection.provider_id, connection.status, connection.secret_state) != (provider_id, "active", "ok")
                or self._is_leased(connection.id)
            ):
                continue
            at = credential.expires_at if by == "expires_at" else credential.created_at
            if at is not None and at < before and (after is None or (at, connection.id) > after):
                found.append((at, connection.id, connection))
        found.sort(key=lambda item: item[:2])
        return [await self._outlook(connection) for _, _, connection in found[:limit]]

    def _is_leased(self, connection_id: str) -> bool:
        hold = self._tables.holds.get(f"refresh:{connection_id}")
        if hold is None or hold.owner is None or hold.expires_at is None:
            return False
        return hold.expires_at > self._tables.clock.now()

    async def _outlook(self, connection: Connection) -> Outlook:
        row = self._tables.credential(connection.id)
        if row is None:
            return Outlook(connection=connection, credential=None, history=RefreshHistory())
        history = RefreshHistory()
        if connection.refresh_state != "ok":
            history = evolve(await self.refresh_history(connection.id, row.version), late=None)
        return Outlook(connection=connection, credential=CredentialFacts.of(row), history=history)
