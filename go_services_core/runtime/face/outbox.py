"""The outbox, for operators: how far the handlers are, and what to do with what they did not handle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from .. import replay as _replay
from ..core import Core
from ..known_names import check as check_names

if TYPE_CHECKING:
    from ...model import Page, QueueItem
    from ...outbox import OutboxStatus, Replayed

UNSEEN: Final = 300.0
"""Seconds for which no process may have said that it has a handler that is forgotten."""


class Outbox:
    """Events and their handlers."""

    _core: Core

    async def outbox_status(self) -> OutboxStatus:
        """How far each handler is, also one that no process has any more: its ``seen_at`` is old."""
        return await self._core.store.queues.outbox_status()

    async def outbox(
        self,
        *,
        status: str | None = None,
        handler: str | None = None,
        event: str | None = None,
        provider_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[QueueItem]:
        """Events for each of their handlers, by id, a page at a time.

        Args:
            status: ``pending``, ``processing``, ``retry_ready``, ``delivered`` or ``dead``.
            handler, event, provider_id: only of this handler, this event's name, this provider.
            since, until: only events that occurred from ``since`` to before ``until``.
            after: the ``next`` of the page before.
            limit: how many at most.

        Raises:
            BadInput: there is no such status.
            NotFound: there is no such handler or provider, and nothing of it.
        """
        _replay.check_status(status)
        page = await self._core.store.queues.list(
            "outbox",
            status=status,
            handler=handler,
            name=event,
            provider_id=provider_id,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )
        if not page.items:
            await check_names(self._core, provider_id=provider_id, handler=handler)
        return page

    async def replay_events(
        self,
        ids: Sequence[str] = (),
        *,
        handler: str | None = None,
        event: str | None = None,
        provider_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        everything: bool = False,
        again: bool = False,
        dry_run: bool = False,
        progress: Callable[[Replayed], None] | None = None,
    ) -> Replayed:
        """Make dead deliveries due again, from their first attempt.

        It is conditional: a delivery that changed since it was looked at is left alone, so that of two operators one
        replays it.

        Args:
            ids: of events, for all of their handlers, or of deliveries: ``EVENT:HANDLER``.
            handler, event, provider_id, since, until: instead of ids, those that match all of these.
            everything: instead of both, all that is dead.
            again: also what was delivered. Its handlers run once more; what they guard by a position has no effect.
            dry_run: count, and change nothing.
            progress: called after each page.

        Raises:
            BadInput: neither ids nor a filter nor ``everything``, or more than one of them.
            NotFound: one of the ids does not exist, or no handler or provider of that name; nothing was changed.
        """
        wanted = {"handler": handler, "name": event, "provider_id": provider_id, "since": since, "until": until}
        return await _replay.replay(
            self._core,
            ids,
            {name: value for name, value in wanted.items() if value is not None},
            everything=everything,
            again=again,
            dry_run=dry_run,
            progress=progress,
        )

    async def backfill_handler(
        self,
        name: str,
        *,
        since: datetime,
        until: datetime | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Deliver events to a handler that occurred before it was registered; gives how many those are.

        Events that reached it are not delivered again, so that it can be repeated.

        Args:
            name: of the handler.
            since, until: events that occurred from ``since`` to before ``until``, or to now.
            dry_run: count, and change nothing.
            progress: called with the number so far after each step.

        Raises:
            NotFound: no handler of that name is registered.
            BadInput: ``until`` is not after ``since``.
        """
        return await _replay.backfill(self._core, name, since=since, until=until, dry_run=dry_run, progress=progress)

    async def forget_handler(
        self, name: str, *, force: bool = False, progress: Callable[[int], None] | None = None
    ) -> int:
        """Remove a handler that no process has any more, and all that waits for it; gives how many deliveries.

        The events end with what their other handlers did.

        Args:
            name: of the handler.
            force: also where a process said within the last five minutes that it has it. One that still runs makes it
                known again, as a new handler.
            progress: called with the number so far after each step.

        Raises:
            NotFound: there is no such handler, and nothing waits for one.
            Conflict: this process has it, or another one said so lately.
        """
        return await _replay.forget(self._core, name, unseen=0.0 if force else UNSEEN, progress=progress)
