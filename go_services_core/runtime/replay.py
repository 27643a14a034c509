"""What an operator does with the outbox: replay, backfill, and forgetting a handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from ..errors import BadInput, Conflict, NotFound
from ..model import QueueItem
from ..outbox import Replayed
from .core import Core
from .known_names import check as check_names

STATUSES: Final = ("pending", "processing", "retry_ready", "delivered", "dead")
PAGE: Final = 500
"""Deliveries that are changed in one commit."""


def check_status(status: str | None) -> None:
    """Raise BadInput unless the outbox knows ``status``."""
    if status is not None and status not in STATUSES:
        raise BadInput(f"There is no status {status!r}.", hint=f"Statuses: {', '.join(STATUSES)}.", field="status")


async def replay(
    core: Core,
    ids: Sequence[str],
    filters: Mapping[str, Any],
    *,
    everything: bool,
    again: bool,
    dry_run: bool,
    progress: Callable[[Replayed], None] | None,
) -> Replayed:
    """See ``Runtime.replay_events``."""
    if (bool(ids), bool(filters), everything).count(True) != 1:
        raise BadInput(
            "What to replay is not clear.",
            hint="Give ids, or filters, or ask for everything.",
            field="ids",
        )
    statuses = ("dead", "delivered") if again else ("dead",)
    total = Replayed()
    for status in (None,) if ids else statuses:
        after: str | None = None
        while True:
            if ids:
                items, after = await _named(core, ids, statuses), None
            else:
                page = await core.store.queues.list("outbox", status=status, after=after, limit=PAGE, **filters)
                # An event that no handler wanted is delivered as well.
                items, after = [item for item in page.items if item.handler is not None], page.next
            done = len(items) if dry_run else len(await core.store.queues.rearm(items)) if items else 0
            total = Replayed(found=total.found + len(items), replayed=total.replayed + done)
            if progress is not None:
                progress(total)
            if after is None:
                break
    if not total.found:
        await check_names(core, provider_id=filters.get("provider_id"), handler=filters.get("handler"))
    return total


async def _named(core: Core, ids: Sequence[str], statuses: Sequence[str]) -> list[QueueItem]:
    """The deliveries of these ids that may be replayed."""
    found: dict[str, QueueItem] = {}
    for id in ids:
        event_id, _, handler = id.partition(":")
        known = [item for item in await core.store.queues.event_deliveries(event_id) if handler in ("", item.handler)]
        if not known:
            raise NotFound(f"There is no delivery {id!r} in the outbox.", field="ids")
        found |= {item.id: item for item in known if item.status in statuses}
    return list(found.values())


async def backfill(
    core: Core,
    name: str,
    *,
    since: datetime,
    until: datetime | None,
    dry_run: bool,
    progress: Callable[[int], None] | None,
) -> int:
    """See ``Runtime.backfill_handler``."""
    end = until if until is not None else core.clock.now()
    if since >= end:
        raise BadInput("A backfill ends after it begins.", field="until")
    count = 0
    if dry_run:
        async for missed in _missed(core, name, since, end):
            count += missed
        return count
    after: str | None = None
    while True:
        made, after = await core.store.queues.backfill(name, since=since, until=end, after=after)
        count += made
        if progress is not None:
            progress(count)
        if after is None:
            return count


async def _missed(core: Core, name: str, since: datetime, until: datetime) -> Any:
    """How many events each page has that would reach the handler."""
    known = {one.name: one.pattern for one in (await core.store.queues.outbox_status()).handlers}
    pattern = known.get(name)
    if pattern is None:
        raise NotFound(
            f"No handler {name!r} is registered.", hint="Start a process that has it first.", field="handler"
        )
    after: str | None = None
    previous, reached, wanted = "", False, False
    while True:
        page = await core.store.queues.list("outbox", since=since, until=until, after=after, limit=PAGE)
        count = 0
        for item in page.items:
            event_id = item.id.partition(":")[0]
            if event_id != previous:
                count += wanted and not reached
                previous, reached, wanted = event_id, False, fnmatchcase(item.name, pattern)
            reached |= item.handler == name
        after = page.next
        if after is None:
            count += wanted and not reached
        yield count
        if after is None:
            return


async def forget(core: Core, name: str, *, unseen: float, progress: Callable[[int], None] | None) -> int:
    """See ``Runtime.forget_handler``."""
    if name in core.handlers:
        raise Conflict(f"This process has the handler {name!r}.", hint="Remove it from the code first.")
    known = {one.name for one in (await core.store.queues.outbox_status()).handlers}
    if name not in known:
        raise NotFound.named("handler", name, known)
    count = 0
    while removed := await core.store.queues.forget_handler(name, unseen=unseen if not count else 0.0):
        count += removed
        if progress is not None:
            progress(count)
    return count
