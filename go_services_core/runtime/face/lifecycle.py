"""Following changes: hooks, the bus, and the activity log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from ...model import Page, Scope
from ...resources import Activity, ActivityStatus
from .. import activity as _activity
from ..core import Core
from ..known_names import check as check_names

if TYPE_CHECKING:
    from ...hook_protocols import LifecycleHook
    from ...model import Event


class Lifecycle:
    """Part of ``Runtime``."""

    _core: Core

    def before(self, events: str, hook: LifecycleHook, *, name: str) -> None:
        """Have ``hook`` asked by this process before a change is committed: what it raises refuses the change.

        It gets the event, before the provider is told of a disconnect and after a consent has brought its tokens. It
        may be asked again about a change that somebody else got in the way of. Renewals, revocations and deliveries are
        not asked about: they have happened at the provider. The events that come of a change (``grant.expanded``) are
        refused with it.

        Args:
            events: the name of an event that can be refused, or a pattern that means one: ``connection.*``.
            hook: ``async``, in the runtime's loop, or plain, in a thread. Hooks are asked in the order of their
                registration. It should be quick: the caller waits, and nobody else renews the connection meanwhile.
            name: stands for it in errors; another hook of the name takes its place.

        Raises:
            BadInput: nothing that ``events`` means can be refused.
        """
        self._core.hooks.before(events, hook, name=name)

    def after(self, events: str, hook: LifecycleHook, *, name: str) -> None:
        """Have ``hook`` called with each matching event that this process commits, soon after the commit.

        One after another, in the order of the commits, while the caller goes on. What it raises is logged and changes
        nothing. It is not durable: where the process dies, or 1000 events wait for it, it is not called. Use ``on`` for
        what must follow.

        Args:
            events: an event's name or a pattern: ``connection.*``.
            hook: ``async``, in the runtime's loop, or plain, in a thread.
            name: stands for it in the log; another hook of the name takes its place.
        """
        self._core.hooks.after(events, hook, name=name)

    def events(self, events: str = "*", *, buffer: int = 1000) -> AsyncIterator[Event]:
        """The matching events that this process commits from now on, for ``async for``.

        For what people watch: it is not durable, and ends when the runtime closes.

        Args:
            events: an event's name or a pattern: ``connection.*``.
            buffer: how many events may wait for the listener.

        Raises:
            EventsMissed: while reading, once everything that waited was given, where more came than ``buffer``. What
                was missed has to be read from the store; reading may go on.
        """
        return self._core.hooks.events(events, buffer)

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
        """Entries of the activity log, newest first, a page at a time.

        Events come into it where ``[activity] enabled`` is true and ``drain`` or the worker runs.

        Args:
            provider_id: of this provider.
            scope: of this scope.
            connection_id: of this connection.
            action: the name of the event, or what the application gave.
            status: ``ok``, ``warn`` or ``error``.
            since: not before this time.
            until: before this time.
            after: ``next`` of the page before.
            limit: how many at most.

        Raises:
            BadInput: ``after`` is not the ``next`` of a page.
            ProviderNotFound, ConnectionNotFound: there is no such provider or connection, and no entry of it.
        """
        page = await _activity.log_of(self._core).activity(
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
        if not page.items:
            await check_names(self._core, provider_id=provider_id, connection_id=connection_id)
        return page

    async def record_activity(self, entries: Iterable[Activity]) -> None:
        """Keep entries of the application's own in the activity log; durable when it returns.

        An entry whose id is kept already stays as it is. What looks like a secret in the metadata is masked. Entries
        that several tasks record at the same time share a statement.

        Raises:
            Conflict: there is no such connection; nothing was kept.
            BadInput: a status is not ``ok``, ``warn`` or ``error``.
        """
        await _activity.record(self._core, list(entries))

    async def prune_activity(self, *, dry_run: bool = False) -> int:
        """Remove what ``[retention] activity_entries`` and ``[activity] row_cap`` do not keep.

        Gives how many entries that were.

        Args:
            dry_run: only count; an entry that both would remove counts twice.
        """
        return await _activity.retain(self._core, dry_run=dry_run)
