"""The blocking face's outbox."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .model import Page, QueueItem
from .outbox import OutboxStatus, Replayed
from .runtime.runtime import Runtime

T = TypeVar("T")


class BlockingOutbox:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def outbox_status(self) -> OutboxStatus:
        return self._run(Runtime.outbox_status)

    def outbox(
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
        return self._run(
            Runtime.outbox,
            status=status,
            handler=handler,
            event=event,
            provider_id=provider_id,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )

    def replay_events(
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
        return self._run(
            Runtime.replay_events,
            ids,
            handler=handler,
            event=event,
            provider_id=provider_id,
            since=since,
            until=until,
            everything=everything,
            again=again,
            dry_run=dry_run,
            progress=progress,
        )

    def backfill_handler(
        self,
        name: str,
        *,
        since: datetime,
        until: datetime | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        return self._run(Runtime.backfill_handler, name, since=since, until=until, dry_run=dry_run, progress=progress)

    def forget_handler(self, name: str, *, force: bool = False, progress: Callable[[int], None] | None = None) -> int:
        return self._run(Runtime.forget_handler, name, force=force, progress=progress)
