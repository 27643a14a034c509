"""Apps that are installed at providers for a scope."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...model import Page, Scope
from ...resources import Installation, InstallationStatus
from .. import installations as _installations
from ..core import Core
from ..installations import Uninstalled
from ..known_names import check as check_names
from ..subscription_making import resources_of


class Installing:
    """Installations: made, suspended, ended and looked at."""

    _core: Core

    async def install(
        self,
        provider_id: str,
        *,
        scope: Scope,
        install_type: str = "app",
        metadata: Mapping[str, Any] | None = None,
        granted_at: datetime | None = None,
    ) -> Installation:
        """Keep that an app is installed for a scope; it is active then.

        What is installed already keeps its id and takes the metadata. After it was uninstalled a new one is made, which
        is told as ``installation.reinstalled``.

        Args:
            provider_id: the configured provider.
            scope: for whom.
            install_type: what kind of installation, where a provider has several; it is kept in lower case.
            metadata: the application's own; no secrets.
            granted_at: when it was allowed; now for a new one.

        Raises:
            ProviderNotFound: with the nearest known id.
            BadInput: the type is blank, or the scope's type is not one of the provider's.
        """
        return await _installations.install(
            self._core,
            provider_id,
            scope=scope,
            install_type=install_type,
            metadata=metadata,
            granted_at=granted_at,
        )

    async def installation(self, installation_id: str) -> Installation:
        """The installation of that id.

        Raises:
            NotFound: there is none.
        """
        return await _installations.get(self._core, installation_id)

    async def installations(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        install_type: str | None = None,
        status: InstallationStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Installation]:
        """Installations by id, a page at a time; pass ``next`` of a page as ``after`` to get the following one.

        Raises:
            ProviderNotFound: there is no such provider, and no installation of it.
        """
        page = await resources_of(self._core).installations(
            provider_id=provider_id,
            scope=scope,
            install_type=install_type,
            status=status,
            after=after,
            limit=limit,
        )
        if not page.items:
            await check_names(self._core, provider_id=provider_id)
        return page

    async def suspend_installation(self, installation_id: str, *, reason: str) -> Installation:
        """Keep that an active installation may not be used for now.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is not active.
            BadInput: the reason is blank.
        """
        return await _installations.move(self._core, installation_id, "suspended", reason=reason)

    async def resume_installation(self, installation_id: str, *, reason: str = "") -> Installation:
        """Keep that an installation that was suspended, or needed a consent, is active again.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is neither.
        """
        return await _installations.move(self._core, installation_id, "active", reason=reason)

    async def require_installation_consent(self, installation_id: str, *, reason: str) -> Installation:
        """Keep that an active installation needs another consent, as for more permissions.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is not active.
            BadInput: the reason is blank.
        """
        return await _installations.move(self._core, installation_id, "needs_reconsent", reason=reason)

    async def uninstall(self, installation_id: str, *, reason: str = "", disconnect: bool = False) -> Uninstalled:
        """Keep that an app is installed no more. A second time nothing happens.

        Args:
            installation_id: the installation.
            reason: goes into the event.
            disconnect: disconnect the connections of its provider and scope before. If the process dies in between, the
                same call goes on.

        Raises:
            NotFound: there is none.
        """
        return await _installations.uninstall(self._core, installation_id, reason=reason, disconnect=disconnect)
