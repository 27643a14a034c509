"""Hearing of changes at providers: subscriptions to their resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ...model import Page
from ...resources import Subscription, SubscriptionStatus
from .. import subscriptions as _subscriptions
from ..core import Core
from ..known_names import check as check_names
from ..spans import Span
from ..subscription_making import resources_of


class Subscribing:
    """Subscriptions: made, renewed, ended and looked at."""

    _core: Core

    async def subscribe(
        self,
        connection_id: str,
        resource_type: str,
        resource_id: str,
        *,
        callback_url: str | None = None,
        events: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Subscription:
        """Have the provider tell of changes of a resource. ``subscriptions.renew`` keeps it so until it is cancelled.

        The row, with its channel and a random token that is sealed, is committed before the provider is asked, so that
        what comes before its answer is known. A second call for the same resource gives the subscription that is there.

        Args:
            connection_id: an active connection.
            resource_type: one of those that the provider's record has ``subscriptions`` for.
            resource_id: the resource, as the provider names it.
            callback_url: where the provider calls; else ``[webhooks] url`` with ``/PROVIDER/CONNECTION``.
            events: what to tell of, in the provider's words; without any, what it tells by itself.
            metadata: kept with it, and given to the provider's adapter; no secrets.

        Raises:
            ConnectionNotFound, ReauthRequired: the connection does not exist, or is not active.
            CapabilityUnsupported: the provider's record does not say how such a resource is subscribed to.
            BadInput: there is no callback URL, or it cannot be one.
            Conflict: the resource is subscribed to with another callback URL, events or metadata, or another process
                subscribes to it now.
            ProviderError, TransportError: the provider refused. Where nobody knows whether it did, ``metadata`` of the
                error has the ``subscription_id`` with which ``subscriptions.renew`` goes on.
        """
        with Span(self._core, "subscribe", connection_id=connection_id, resource_type=resource_type):
            return await _subscriptions.subscribe(
                self._core,
                connection_id,
                resource_type,
                resource_id,
                callback_url=callback_url,
                events=events,
                metadata=metadata or {},
            )

    async def subscription(self, subscription_id: str) -> Subscription:
        """The subscription of that id. One that was replaced names the next one in ``replaced_by``.

        Raises:
            NotFound: there is none.
        """
        return await _subscriptions.get(self._core, subscription_id)

    async def subscriptions(
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
        """Subscriptions by id, a page at a time; pass ``next`` of a page as ``after`` to get the following one.

        Raises:
            ProviderNotFound, ConnectionNotFound: there is no such provider or connection, and nothing of it.
        """
        page = await resources_of(self._core).subscriptions(
            connection_id=connection_id,
            provider_id=provider_id,
            resource_type=resource_type,
            resource_id=resource_id,
            status=status,
            expiring_before=expiring_before,
            after=after,
            limit=limit,
        )
        if not page.items:
            await check_names(self._core, provider_id=provider_id, connection_id=connection_id)
        return page

    async def renew_subscription(self, subscription_id: str) -> Subscription:
        """Renew a subscription now, also one that has expired; gives what is live now, which may have another id.

        Raises:
            NotFound: there is none.
            ReauthRequired: its connection is not active.
            Conflict: it was cancelled, or another process works on it at this moment.
            ProviderError, TransportError: the provider did not; ``subscriptions.renew`` tries again.
        """
        return await _subscriptions.renew(self._core, subscription_id)

    async def cancel_subscription(self, subscription_id: str, *, reason: str = "cancelled") -> Subscription:
        """End a subscription, here in any case: what comes on its channel is rejected from then on.

        A provider that cannot be told now is told by the job ``subscriptions.cancel``. What replaced it ends as well.
        A second time nothing happens.

        Raises:
            NotFound: there is none.
            VersionConflict: it was changed again and again meanwhile.
        """
        return await _subscriptions.cancel(self._core, subscription_id, reason=reason)

    async def report_gap(self, subscription_id: str, *, since: datetime | None = None, reason: str = "missed") -> None:
        """Tell that notifications were missed until now, which a provider may say itself.

        It commits the event ``subscription.gap``, and a job ``sync.backfill`` where the provider's record asks for one.

        Args:
            subscription_id: the subscription, or one that it replaced.
            since: since when; else since the last notification, or since the provider last confirmed it.
            reason: goes into the event.

        Raises:
            NotFound: there is none.
            BadInput: ``since`` is ahead or has no time zone, or the reason is blank.
        """
        await _subscriptions.report_gap(self._core, subscription_id, since=since, reason=reason)
