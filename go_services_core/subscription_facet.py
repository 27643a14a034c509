"""What a store must do for subscriptions; a part of its ``resources`` facet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from .model import Event, NewJob, Page
from .resources import Subscription, SubscriptionStatus


class SubscriptionFacet(Protocol):
    """Versioned rows of subscriptions, each with a channel that stays with its connection."""

    async def save_subscription(
        self, subscription: Subscription, *, expected_version: int | None, event: Event | None = None
    ) -> Subscription:
        """Keep a new subscription (``expected_version=None``), or replace the row of that version; with ``event``.

        A new one is active. It takes the channel of a cancelled one of the same connection. A replaced row keeps id,
        connection, provider and ``created_at``, and of two times of ``last_notified_at`` the later; its status follows
        the moves of ``SUBSCRIPTION_MOVES``. The result has the version that was saved.

        Raises:
            VersionConflict: the row has another version, or the new one's id or channel is there already. Its
                ``metadata`` has ``subscription_id`` and ``version`` of the row that is.
            Conflict: the channel is another connection's or another subscription's.
            InvalidTransition: a new one is not active, or the row's status may not become this one.
            ConnectionNotFound, NotFound: the connection, or the subscription to replace, does not exist.
        """
        ...

    async def save_subscriptions(
        self,
        changes: Sequence[tuple[Subscription, int | None]],
        *,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
    ) -> Sequence[Subscription]:
        """As :meth:`save_subscription`, of several subscriptions, each with the version that is expected of it.

        Events and jobs commit with them, jobs as ``enqueue`` keeps them: all of it, or nothing.
        """
        ...

    async def subscription(self, subscription_id: str) -> Subscription | None:
        """The subscription."""
        ...

    async def subscription_by_channel(self, provider_id: str, channel_id: str) -> Subscription | None:
        """The subscription of a channel, whatever its status."""
        ...

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
        """Subscriptions by id, a page at a time; with ``expiring_before`` those that expire then or earlier."""
        ...

    async def due_subscriptions(
        self, provider_id: str, *, before: datetime, after: tuple[datetime, str] | None = None, limit: int = 100
    ) -> Sequence[Subscription]:
        """Those whose ``renew_at`` is ``before`` or earlier, the earliest first, and that are not cancelled.

        Where the connection is not active, only what is active still and has expired. Of those with the same time the
        lower id comes first; ``after`` is the time and the id of the last one seen.
        """
        ...

    async def notified(self, moments: Mapping[tuple[str, str], datetime]) -> None:
        """Keep when notifications came, by provider and channel. An earlier time than the stored one changes nothing.

        The version of a subscription stays, since nothing that anybody decides by has changed.
        """
        ...

    async def set_subscription_status(
        self,
        subscription_id: str,
        *,
        expected: Collection[SubscriptionStatus],
        status: SubscriptionStatus,
        reason: str = "",
        event: Event | None = None,
    ) -> Subscription:
        """Move the subscription from one of ``expected`` to ``status``, with ``event``. It gets the next version.

        Raises:
            InvalidTransition: its status is not one of those, or may not become ``status``; nothing changed.
            NotFound: there is none.
        """
        ...
