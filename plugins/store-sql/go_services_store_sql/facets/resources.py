"""The ``resources``, ``budgets`` and ``log`` facets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import uuid4

from go_services_core.model import Event, NewJob, Page, Scope
from go_services_core.resources import (
    Activity,
    ActivityStatus,
    Budget,
    BudgetAsk,
    BudgetBlock,
    BudgetGrant,
    BudgetKey,
    BudgetLease,
    Installation,
    InstallationStatus,
    Subscription,
    SubscriptionStatus,
    SyncCursor,
)

from .. import activity, budgets, cursors, installations, subscriptions
from ..driver import Driver
from ..statement import Steps
from .limits import at_least_one


class SqlResources:
    """The ``resources`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def save_subscription(
        self, subscription: Subscription, *, expected_version: int | None, event: Event | None = None
    ) -> Subscription:
        return await self._driver.run(
            lambda: _only(subscriptions.save([(subscription, expected_version)], events=_given(event), jobs=())),
            alone=expected_version is not None and event is None,
        )

    async def save_subscriptions(
        self,
        changes: Sequence[tuple[Subscription, int | None]],
        *,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
    ) -> Sequence[Subscription]:
        return await self._driver.run(
            lambda: subscriptions.save(changes, events=events, jobs=jobs),
            destroys=any(one.verification is None and expected is not None for one, expected in changes),
        )

    async def due_subscriptions(
        self, provider_id: str, *, before: datetime, after: tuple[datetime, str] | None = None, limit: int = 100
    ) -> Sequence[Subscription]:
        at_least_one(limit)
        return await self._driver.read(lambda: subscriptions.due(provider_id, before=before, after=after, limit=limit))

    async def notified(self, moments: Mapping[tuple[str, str], datetime]) -> None:
        if moments:
            await self._driver.run(lambda: subscriptions.notified(moments), alone=True)

    async def subscription(self, subscription_id: str) -> Subscription | None:
        return await self._driver.read(lambda: subscriptions.get(subscription_id))

    async def subscription_by_channel(self, provider_id: str, channel_id: str) -> Subscription | None:
        return await self._driver.read(lambda: subscriptions.by_channel(provider_id, channel_id))

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
        at_least_one(limit)
        return await self._driver.read(
            lambda: subscriptions.page(
                connection_id=connection_id,
                provider_id=provider_id,
                resource_type=resource_type,
                resource_id=resource_id,
                status=status,
                expiring_before=expiring_before,
                after=after,
                limit=limit,
            )
        )

    async def set_subscription_status(
        self,
        subscription_id: str,
        *,
        expected: Collection[SubscriptionStatus],
        status: SubscriptionStatus,
        reason: str = "",
        event: Event | None = None,
    ) -> Subscription:
        return await self._driver.run(
            lambda: subscriptions.set_status(
                subscription_id, expected=expected, status=status, reason=reason, event=event
            ),
            alone=event is None,
        )

    async def upsert_installation(
        self, installation: Installation, *, live: bool | None = None, event: Event | None = None
    ) -> Installation:
        return await self._driver.run(
            lambda: installations.upsert(installation, live=live, event=event), alone=event is None
        )

    async def installation(self, installation_id: str) -> Installation | None:
        return await self._driver.read(lambda: installations.get(installation_id))

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
        at_least_one(limit)
        return await self._driver.read(
            lambda: installations.page(
                provider_id=provider_id,
                scope=scope,
                install_type=install_type,
                status=status,
                after=after,
                limit=limit,
            )
        )

    async def set_installation_status(
        self,
        installation_id: str,
        *,
        expected: Collection[InstallationStatus],
        status: InstallationStatus,
        reason: str = "",
        event: Event | None = None,
    ) -> Installation:
        return await self._driver.run(
            lambda: installations.set_status(
                installation_id, expected=expected, status=status, reason=reason, event=event
            ),
            alone=event is None,
        )

    async def cursor(
        self, connection_id: str, provider_id: str, resource_type: str, resource_id: str
    ) -> SyncCursor | None:
        return await self._driver.read(lambda: cursors.get(connection_id, provider_id, resource_type, resource_id))

    async def advance_cursor(
        self, cursor: SyncCursor, *, expected: str | None, event: Event | None = None
    ) -> SyncCursor:
        return await self._driver.run(
            lambda: cursors.advance(cursor, expected=expected, event=event), alone=event is None
        )


def _given(event: Event | None) -> tuple[Event, ...]:
    return () if event is None else (event,)


def _only(steps: Steps[list[Subscription]]) -> Steps[Subscription]:
    (saved,) = yield from steps
    return saved


class SqlBudgets:
    """The ``budgets`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def take(self, key: BudgetKey, units: float, *, limit: float, window: float) -> BudgetGrant:
        id = str(uuid4())
        return await self._driver.run(lambda: budgets.take(id, key, units, limit=limit, window=window), alone=True)

    async def correct(self, key: BudgetKey, *, remaining: float, limit: float, reset_in: float) -> None:
        id = str(uuid4())
        await self._driver.run(
            lambda: budgets.correct(id, key, remaining=remaining, limit=limit, reset_in=reset_in), alone=True
        )

    async def lease(self, asks: Sequence[BudgetAsk], *, sharer: Scope | None = None) -> BudgetLease:
        ids = _ids(len(asks) + 1)
        return await self._driver.run(
            lambda: budgets.lease(ids, asks, sharer=sharer), alone=len(asks) == 1 and sharer is None
        )

    async def give_back(self, blocks: Sequence[BudgetBlock]) -> None:
        await self._driver.run(lambda: budgets.give_back(blocks), alone=len(blocks) < 2)

    async def pause(self, keys: Sequence[BudgetKey], *, seconds: float) -> None:
        ids = _ids(len(keys))
        await self._driver.run(lambda: budgets.pause(ids, keys, seconds=seconds), alone=len(keys) < 2)

    async def peek(self, key: BudgetKey) -> Budget | None:
        return await self._driver.read(lambda: budgets.peek(key))


def _ids(number: int) -> list[str]:
    return [str(uuid4()) for _ in range(number)]


class SqlLog:
    """The ``log`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def record(self, entries: Sequence[Activity]) -> int:
        if not entries:
            return 0
        return await self._driver.run(lambda: activity.record(entries), alone=True)

    async def trim(self, *, rows: int, limit: int, after: str = "", dry_run: bool = False) -> tuple[int, str | None]:
        at_least_one(limit)
        step = partial(activity.trim, rows=rows, limit=limit, after=after, dry_run=dry_run)
        return await (self._driver.read(step) if dry_run else self._driver.run(step, alone=True))

    async def activity(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        connection_id: str | None = None,
        action: str | None = None,
        status: ActivityStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Activity]:
        at_least_one(limit)
        return await self._driver.read(
            lambda: activity.page(
                provider_id=provider_id,
                scope=scope,
                connection_id=connection_id,
                action=action,
                status=status,
                since=since,
                until=until,
                after=after,
                limit=limit,
            )
        )
