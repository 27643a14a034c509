"""The subscriptions, installations and cursors of the memory store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from attrs import evolve

from ..errors import BadInput, Conflict, InvalidTransition, NotFound, SyncCursorConflict, VersionConflict
from ..model import Event, NewJob, Page, Scope
from ..resources import (
    INSTALLATION_MOVES,
    SUBSCRIPTION_MOVES,
    Installation,
    InstallationStatus,
    Subscription,
    SubscriptionStatus,
    SyncCursor,
    allowed_from,
    predecessors,
)
from .memory_queues import Queues
from .memory_tables import Tables, page


def _not_allowed(what: str, id: str, before: str, after: str) -> InvalidTransition:
    return InvalidTransition(
        f"This {what} is {before} and does not become {after} now.", metadata={"id": id, "status": before}
    )


class Resources:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def save_subscription(
        self, subscription: Subscription, *, expected_version: int | None, event: Event | None = None
    ) -> Subscription:
        events = () if event is None else (event,)
        (saved,) = await self.save_subscriptions([(subscription, expected_version)], events=events)
        return saved

    async def save_subscriptions(
        self,
        changes: Sequence[tuple[Subscription, int | None]],
        *,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
    ) -> Sequence[Subscription]:
        tables = self._tables
        before = dict(tables.subscriptions)
        try:
            saved = [
                self._inserted(wanted) if expected is None else self._replaced(wanted, expected)
                for wanted, expected in changes
            ]
            tables.check_new(*events)
            for job in jobs:
                await Queues(tables).enqueue(job)
        except BaseException:
            tables.subscriptions = before
            raise
        for event in events:
            tables.enqueue(event)
        return saved

    def _inserted(self, wanted: Subscription) -> Subscription:
        tables = self._tables
        holder, found = self._holder(wanted), tables.subscriptions.get(wanted.id)
        if wanted.status != "active":
            raise InvalidTransition(f"A new subscription is active, not {wanted.status}.", field="subscription.status")
        tables.connection(wanted.connection_id)
        if holder is not None and holder.connection_id != wanted.connection_id:
            raise Conflict("The channel belongs to another connection.", field="subscription.channel_id")
        freed = holder if holder is not None and holder.status == "cancelled" else None
        taken = (holder if freed is None else None) or found
        if taken is not None:
            raise self._changed(taken)
        if freed is not None:
            del tables.subscriptions[freed.id]
        saved = tables.subscriptions[wanted.id] = evolve(wanted, version=1)
        return saved

    def _replaced(self, wanted: Subscription, version: int) -> Subscription:
        tables = self._tables
        holder, found = self._holder(wanted), tables.subscriptions.get(wanted.id)
        if found is None:
            raise NotFound(f"There is no subscription {wanted.id!r}.", metadata={"id": wanted.id})
        if (found.connection_id, found.provider_id) != (wanted.connection_id, wanted.provider_id):
            raise Conflict("A subscription keeps its connection and provider.", field="subscription.connection_id")
        if found.version != version:
            raise self._changed(found)
        if found.status not in predecessors(SUBSCRIPTION_MOVES, wanted.status):
            raise _not_allowed("subscription", found.id, found.status, wanted.status)
        if holder is not None and holder.id != found.id:
            raise Conflict("The channel belongs to another subscription.", field="subscription.channel_id")
        told = max((at for at in (found.last_notified_at, wanted.last_notified_at) if at is not None), default=None)
        saved = tables.subscriptions[found.id] = evolve(
            wanted, version=found.version + 1, created_at=found.created_at, last_notified_at=told
        )
        return saved

    def _holder(self, wanted: Subscription) -> Subscription | None:
        return self._of_channel(wanted.provider_id, wanted.channel_id)

    def _of_channel(self, provider_id: str, channel_id: str) -> Subscription | None:
        for found in self._tables.subscriptions.values():
            if (found.provider_id, found.channel_id) == (provider_id, channel_id):
                return found
        return None

    def _changed(self, found: Subscription) -> VersionConflict:
        return VersionConflict(
            "Another writer was first: the subscription has another version.",
            metadata={"subscription_id": found.id, "version": found.version},
        )

    async def subscription(self, subscription_id: str) -> Subscription | None:
        return self._tables.subscriptions.get(subscription_id)

    async def subscription_by_channel(self, provider_id: str, channel_id: str) -> Subscription | None:
        return self._of_channel(provider_id, channel_id)

    async def due_subscriptions(
        self, provider_id: str, *, before: datetime, after: tuple[datetime, str] | None = None, limit: int = 100
    ) -> Sequence[Subscription]:
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        found = [
            (one.renew_at, one.id, one)
            for one in self._tables.subscriptions.values()
            if one.provider_id == provider_id
            and one.status != "cancelled"
            and one.renew_at is not None
            and one.renew_at <= before
            and (after is None or (one.renew_at, one.id) > after)
            and self._is_of_use(one, before)
        ]
        return [one for *_, one in sorted(found, key=lambda item: item[:2])[:limit]]

    def _is_of_use(self, one: Subscription, before: datetime) -> bool:
        if self._tables.connection(one.connection_id).status == "active":
            return True
        return one.status == "active" and one.expires_at is not None and one.expires_at <= before

    async def notified(self, moments: Mapping[tuple[str, str], datetime]) -> None:
        for (provider_id, channel_id), at in moments.items():
            found = self._of_channel(provider_id, channel_id)
            if found is not None and (found.last_notified_at is None or found.last_notified_at < at):
                self._tables.subscriptions[found.id] = evolve(found, last_notified_at=at)

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
        wanted = {
            "connection_id": connection_id,
            "provider_id": provider_id,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "status": status,
        }
        filters = [(name, value) for name, value in wanted.items() if value is not None]
        found = [
            (one.id, one)
            for one in self._tables.subscriptions.values()
            if all(getattr(one, name) == value for name, value in filters)
            and (expiring_before is None or (one.expires_at is not None and one.expires_at <= expiring_before))
        ]
        return page(found, after, limit)

    async def set_subscription_status(
        self,
        subscription_id: str,
        *,
        expected: Collection[SubscriptionStatus],
        status: SubscriptionStatus,
        reason: str = "",
        event: Event | None = None,
    ) -> Subscription:
        tables = self._tables
        before = allowed_from(SUBSCRIPTION_MOVES, status, expected)
        found = tables.subscriptions.get(subscription_id)
        if found is None:
            raise NotFound(f"There is no subscription {subscription_id!r}.", metadata={"id": subscription_id})
        if found.status not in before:
            raise _not_allowed("subscription", found.id, found.status, status)
        tables.check_new(event)
        now = tables.clock.now()
        moved = evolve(found, status=status, status_reason=reason, version=found.version + 1, updated_at=now)
        tables.subscriptions[found.id] = moved
        tables.enqueue(event)
        return moved

    async def upsert_installation(
        self, installation: Installation, *, live: bool | None = None, event: Event | None = None
    ) -> Installation:
        tables, wanted = self._tables, installation
        before = predecessors(INSTALLATION_MOVES, wanted.status)
        key = (wanted.provider_id, wanted.scope, wanted.install_type)
        found_live = [
            one
            for one in tables.installations.values()
            if (one.provider_id, one.scope, one.install_type) == key and one.status != "uninstalled"
        ]
        if live is not None and bool(found_live) is not live:
            raise VersionConflict("Another writer was first: it was installed or uninstalled meanwhile.")
        if not found_live and wanted.status != "active":
            raise InvalidTransition(f"A new installation is active, not {wanted.status}.", field="installation.status")
        tables.check_new(event)
        if not found_live:
            if wanted.id in tables.installations:
                raise Conflict(f"There is an installation {wanted.id!r} already.")
            saved = evolve(wanted, version=1)
        else:
            (found,) = found_live
            if found.status not in before:
                raise _not_allowed("installation", found.id, found.status, wanted.status)
            revoked_at = wanted.revoked_at or found.revoked_at
            if wanted.status == "uninstalled" and revoked_at is None:
                revoked_at = tables.clock.now()
            saved = evolve(
                wanted,
                id=found.id,
                version=found.version + 1,
                granted_at=wanted.granted_at or found.granted_at,
                revoked_at=revoked_at,
                created_at=found.created_at,
            )
        tables.installations[saved.id] = saved
        tables.enqueue(event)
        return saved

    async def installation(self, installation_id: str) -> Installation | None:
        return self._tables.installations.get(installation_id)

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
        wanted = {"provider_id": provider_id, "scope": scope, "install_type": install_type, "status": status}
        filters = [(name, value) for name, value in wanted.items() if value is not None]
        found = [
            (one.id, one)
            for one in self._tables.installations.values()
            if all(getattr(one, name) == value for name, value in filters)
        ]
        return page(found, after, limit)

    async def set_installation_status(
        self,
        installation_id: str,
        *,
        expected: Collection[InstallationStatus],
        status: InstallationStatus,
        reason: str = "",
        event: Event | None = None,
    ) -> Installation:
        tables = self._tables
        before = allowed_from(INSTALLATION_MOVES, status, expected)
        found = tables.installations.get(installation_id)
        if found is None:
            raise NotFound(f"There is no installation {installation_id!r}.", metadata={"id": installation_id})
        if found.status not in before:
            raise _not_allowed("installation", found.id, found.status, status)
        tables.check_new(event)
        now = tables.clock.now()
        revoked_at = found.revoked_at or now if status == "uninstalled" else found.revoked_at
        moved = evolve(found, status=status, status_reason=reason, version=found.version + 1, updated_at=now)
        tables.installations[found.id] = evolve(moved, revoked_at=revoked_at)
        tables.enqueue(event)
        return tables.installations[found.id]

    async def cursor(
        self, connection_id: str, provider_id: str, resource_type: str, resource_id: str
    ) -> SyncCursor | None:
        return self._tables.cursors.get((connection_id, provider_id, resource_type, resource_id))

    async def advance_cursor(
        self, cursor: SyncCursor, *, expected: str | None, event: Event | None = None
    ) -> SyncCursor:
        tables = self._tables
        if not cursor.cursor.strip():
            raise BadInput("A cursor may not be blank.", field="cursor.cursor")
        key = (cursor.connection_id, cursor.provider_id, cursor.resource_type, cursor.resource_id)
        if not expected:
            tables.connection(cursor.connection_id)
        found = tables.cursors.get(key)
        if expected is not None and (found.cursor if found is not None else "") != expected:
            raise SyncCursorConflict(
                metadata={
                    "connection_id": cursor.connection_id,
                    "resource": f"{cursor.resource_type}:{cursor.resource_id}",
                }
            )
        tables.check_new(event)
        if found is not None:
            synced = cursor.last_synced_at or found.last_synced_at
            cursor = evolve(cursor, id=found.id, created_at=found.created_at, last_synced_at=synced)
        tables.cursors[key] = cursor
        tables.enqueue(event)
        return cursor
