"""What there is and how it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from ...grants import GrantEvent, GrantReport
from ...model import (
    Connection,
    GrantSnapshot,
    Health,
    KeyRef,
    MigrationStep,
    Page,
    Resolution,
    Scope,
    SecretState,
    StoreStatus,
    UserProfile,
)
from ...outlook import ConnectionHealth
from ...resources import Budget
from .. import budget as _budget
from .. import forecast as _forecast
from .. import grants as _grants
from .. import identity as _identity
from .. import resolve as _resolve
from .. import settings_secrets as _settings_secrets
from ..core import Core
from ..known_names import check as check_names

if TYPE_CHECKING:
    from ...catalog import Catalog
    from ...providers import ProviderInstance
    from ..runtime import Runtime


class Looking:
    """Connections, grants, providers, the store and their health."""

    _core: Core

    async def connection(self, connection_id: str) -> Connection:
        """The connection of that id."""
        return await self._core.store.connections.get(connection_id)

    async def profile(self, connection_id: str) -> UserProfile:
        """Whose account the connection is, asked of the provider now.

        Raises:
            ReauthRequired: the connection is not active.
            ProfileNotFound: the provider does not say, or tells of another account than the ID token's.
            ProviderError, TransportError: it refused, or there was no answer.
        """
        return await _identity.profile(self._core, connection_id)

    async def connections(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        status: str | None = None,
        secret_state: SecretState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Connection]:
        """Connections, a page at a time; pass ``next`` of a page as ``after`` to get the following one.

        ``since`` and ``until`` (exclusive) are about when they were made.

        Raises:
            ProviderNotFound: there is no such provider, and no connection of it.
        """
        page = await self._core.store.connections.list(
            provider_id=provider_id,
            scope=scope,
            status=status,
            secret_state=secret_state,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )
        if not page.items:
            await check_names(self._core, provider_id=provider_id)
        return page

    async def connection_counts(self) -> Mapping[str, Mapping[str, int]]:
        """How many connections each provider has in each status that one of its connections is in."""
        return await self._core.store.connections.counts()

    async def connection_health(self, connection_id: str, *, within: timedelta = _forecast.WITHIN) -> ConnectionHealth:
        """When a connection's tokens end, when it is renewed, and whether it needs somebody; nothing is decrypted.

        Args:
            connection_id: the connection.
            within: a new consent that is needed within this time is told of, as ``reauth soon``.

        Raises:
            ConnectionNotFound: there is none of that id.
            BadInput: ``within`` is below 0.
        """
        return await _forecast.health(self._core, connection_id, within=within)

    async def connections_health(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        within: timedelta = _forecast.WITHIN,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[ConnectionHealth]:
        """As :meth:`connection_health`, of all connections that are not disconnected, by id, a page at a time.

        Pass ``next`` of a page as ``after`` to get the following one.
        """
        return await _forecast.page(
            self._core, provider_id=provider_id, scope=scope, within=within, after=after, limit=limit
        )

    async def grants(self, connection_id: str) -> GrantReport:
        """What was requested, what was granted, what is missing, and what that means for each capability.

        Raises:
            ConnectionNotFound: there is none of that id.
        """
        return await _grants.report(self._core, connection_id)

    async def grant_events(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantEvent]:
        """The history of a connection's grants by id, a page at a time."""
        return await self._core.store.connections.grant_events(connection_id, after=after, limit=limit)

    async def grant_snapshots(
        self, connection_id: str, *, after: str | None = None, limit: int = 100
    ) -> Page[GrantSnapshot]:
        """What was requested and granted over time, by version, a page at a time."""
        return await self._core.store.connections.grant_snapshots(connection_id, after=after, limit=limit)

    async def resolve(self, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Resolution:
        """Which active connection serves a scope: its own, or that of the first of ``parents`` that has one.

        A plugin's connection policy may choose among them; else a level with several is ambiguous.

        Args:
            provider_id: the configured provider.
            scope: who wants to use it.
            parents: the user's organisations, nearest first; they count where ``[providers.<id>] inheritance`` is
                ``"org"``.

        Raises:
            ProviderNotFound: with the nearest known id.
            BadInput: ``parents`` are given for an organisation, or have a user among them.
        """
        return await _resolve.resolve(self._core, provider_id, scope, parents=parents)

    async def find(self, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Connection:
        """The connection that :meth:`resolve` gives.

        Raises:
            ConnectionAmbiguous: several are active and no policy chooses.
            ConnectionNotFound: none is active.
        """
        return await _resolve.find(self._core, provider_id, scope, parents=parents)

    async def budget(self, connection_id: str, operation: str) -> Mapping[str, Budget]:
        """What is left of the rate budget that counts an operation, by window: its seconds, or ``told``.

        It has the windows that are declared, and those that answers told this process of while little is left. Units
        that a process has leased and not used yet count as used.

        Raises:
            ConnectionNotFound, OperationNotFound: there is none.
        """
        return await _budget.look(self._core, connection_id, operation)

    def providers(self) -> Mapping[str, ProviderInstance]:
        """The configured providers by id."""
        return self._core.instances

    def catalog(self) -> Catalog:
        """What the plugins offer."""
        return self._core.catalog

    async def store_status(self) -> StoreStatus:
        """Schema, sizes and problems of the database."""
        return await self._core.store.status()

    async def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        """Apply pending migrations, or only list them."""
        return await self._core.store.migrate(dry_run=dry_run)

    async def check_key(self) -> KeyRef:
        """The secret backend's primary key, after proving that it works.

        Raises:
            KeyInvalid, KeyNotFound, BackendUnavailable: it does not.
        """
        return await self._core.backend.check()

    async def check_settings(self) -> int:
        """Read the secrets that the providers' settings refer to, as their first use would; gives how many there are.

        Raises:
            ConfigError: with every reference that leads to nothing.
        """
        return await _settings_secrets.check(self._core)

    async def health(self) -> list[tuple[str, Health]]:
        """Every health check's answer; one that raises is unhealthy."""
        found = []
        for id, spec in sorted(self._core.catalog.health_checks.items()):
            try:
                health = await spec.check.resolve()(cast("Runtime", self))
            except Exception as error:
                health = Health(ok=False, detail=f"{type(error).__name__}: {error}")
            found.append((id, health))
        return found
