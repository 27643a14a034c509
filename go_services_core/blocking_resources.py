"""The blocking face's subscriptions and installations."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .model import Page, Scope
from .resources import Installation, InstallationStatus, Subscription, SubscriptionStatus
from .runtime.installations import Uninstalled
from .runtime.runtime import Runtime

T = TypeVar("T")


class BlockingResources:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def subscribe(
        self,
        connection_id: str,
        resource_type: str,
        resource_id: str,
        *,
        callback_url: str | None = None,
        events: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Subscription:
        return self._run(
            Runtime.subscribe,
            connection_id,
            resource_type,
            resource_id,
            callback_url=callback_url,
            events=events,
            metadata=metadata,
        )

    def subscription(self, subscription_id: str) -> Subscription:
        return self._run(Runtime.subscription, subscription_id)

    def subscriptions(
        self,
        *,
        connection_id: str | None = None,
        provider_id: str | None = None,
        resource_type: str | None = None,
        resource_id: str | None = None,
        status: SubscriptionStatus | None = None,
        expiring_before: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Subscription]:
        return self._run(
            Runtime.subscriptions,
            connection_id=connection_id,
            provider_id=provider_id,
            resource_type=resource_type,
            resource_id=resource_id,
            status=status,
            expiring_before=expiring_before,
            after=after,
            limit=limit,
        )

    def renew_subscription(self, subscription_id: str) -> Subscription:
        return self._run(Runtime.renew_subscription, subscription_id)

    def cancel_subscription(self, subscription_id: str, *, reason: str = "cancelled") -> Subscription:
        return self._run(Runtime.cancel_subscription, subscription_id, reason=reason)

    def report_gap(self, subscription_id: str, *, since: datetime | None = None, reason: str = "missed") -> None:
        self._run(Runtime.report_gap, subscription_id, since=since, reason=reason)

    def install(
        self,
        provider_id: str,
        *,
        scope: Scope,
        install_type: str = "app",
        metadata: Mapping[str, Any] | None = None,
        granted_at: datetime | None = None,
    ) -> Installation:
        return self._run(
            Runtime.install,
            provider_id,
            scope=scope,
            install_type=install_type,
            metadata=metadata,
            granted_at=granted_at,
        )

    def installation(self, installation_id: str) -> Installation:
        return self._run(Runtime.installation, installation_id)

    def installations(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        install_type: str | None = None,
        status: InstallationStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Installation]:
        return self._run(
            Runtime.installations,
            provider_id=provider_id,
            scope=scope,
            install_type=install_type,
            status=status,
            after=after,
            limit=limit,
        )

    def suspend_installation(self, installation_id: str, *, reason: str) -> Installation:
        return self._run(Runtime.suspend_installation, installation_id, reason=reason)

    def resume_installation(self, installation_id: str, *, reason: str = "") -> Installation:
        return self._run(Runtime.resume_installation, installation_id, reason=reason)

    def require_installation_consent(self, installation_id: str, *, reason: str) -> Installation:
        return self._run(Runtime.require_installation_consent, installation_id, reason=reason)

    def uninstall(self, installation_id: str, *, reason: str = "", disconnect: bool = False) -> Uninstalled:
        return self._run(Runtime.uninstall, installation_id, reason=reason, disconnect=disconnect)
