"""Having deliveries handled once more: those that were given up, and on demand those that were handled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TypeAlias

from attrs import evolve, frozen

from ..deliveries import Delivery, DeliveryStatus, HandlerState, Redelivered
from ..errors import BadInput, NotFound
from ..http import InboundRequest
from ..model import Page, QueueItem
from . import bindings
from .core import Core
from .known_names import check as check_names
from .payload import decode_request

Progress: TypeAlias = Callable[[Redelivered], None]
PAGE = 100


@frozen(kw_only=True)
class Filter:
    """Which deliveries; None counts for nothing."""

    provider_id: str | None = None
    connection_id: str | None = None
    status: DeliveryStatus | None = None
    event: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    dead: bool = False

    async def page(self, core: Core, *, after: str | None, limit: int) -> Page[Delivery]:
        """A page of them by id."""
        for name, value in (("since", self.since), ("until", self.until)):
            if value is not None and value.tzinfo is None:
                raise BadInput(f"{name} needs a time zone.", field=name)
        return await core.store.queues.deliveries(
            provider_id=self.provider_id,
            connection_id=self.connection_id,
            status=self.status,
            event=self.event,
            since=self.since,
            until=self.until,
            dead=self.dead,
            after=after,
            limit=limit,
        )


async def delivery(core: Core, delivery_id: str) -> Delivery:
    """See ``Runtime.delivery``."""
    found = await core.store.queues.delivery_state(delivery_id)
    if found is None:
        raise NotFound(f"There is no delivery {delivery_id!r}.", hint="`webhooks list` shows their ids.", field="id")
    return found


async def request(core: Core, delivery_id: str) -> InboundRequest:
    """See ``Runtime.delivery_request``."""
    row = await core.store.queues.delivery(delivery_id)
    if row is None:
        raise NotFound(f"There is no delivery {delivery_id!r}.", hint="`webhooks list` shows their ids.", field="id")
    return decode_request(await core.sealer.open(row.sealed, bindings.inbox(row.id, row.provider_id, row.scope)))


async def replay(
    core: Core,
    delivery_id: str | None,
    which: Filter,
    *,
    handler: str | None,
    again: bool,
    dry_run: bool,
    progress: Progress | None,
) -> Redelivered:
    """See ``Runtime.replay``."""
    done = Redelivered()
    if delivery_id is not None:
        if which != Filter():
            raise BadInput("A replay is of one delivery or of those that filters choose.", field="delivery_id")
        done = await _replay_one(core, await delivery(core, delivery_id), done, handler, again, dry_run)
        if not done.deliveries + done.handlers:
            await check_names(core, handler=handler)
        return done
    async for one in _all(core, evolve(which, dead=not again)):
        done = await _replay_one(core, one, done, handler, again, dry_run)
        if progress is not None:
            progress(done)
    if not done.deliveries + done.handlers:
        await check_names(core, provider_id=which.provider_id, connection_id=which.connection_id, handler=handler)
    return done


async def _all(core: Core, which: Filter) -> AsyncIterator[Delivery]:
    after = None
    while True:
        page = await which.page(core, after=after, limit=PAGE)
        for one in page.items:
            yield one
        if (after := page.next) is None:
            return


async def _replay_one(
    core: Core, one: Delivery, done: Redelivered, handler: str | None, again: bool, dry_run: bool
) -> Redelivered:
    """Re-arm what of ``one`` is to be replayed, if it is still as it was seen."""
    whole = handler is None and _passes_on_anew(one, again)
    wanted = ("dead", "delivered") if again else ("dead",)
    seen = [_item(one, row) for row in one.handlers if row.status in wanted and handler in (None, row.handler)]
    deliveries, handlers = int(whole), len(seen)
    if not dry_run:
        deliveries = int(whole and await core.store.queues.rearm_delivery(one.id, fence=one.fence))
        handlers = len(await core.store.queues.rearm(seen)) if seen else 0
    return Redelivered(
        seen=done.seen + 1,
        deliveries=done.deliveries + deliveries,
        handlers=done.handlers + handlers,
        changed_meanwhile=done.changed_meanwhile + int(whole) + len(seen) - deliveries - handlers,
    )


def _item(one: Delivery, row: HandlerState) -> QueueItem:
    """The row of one of its handlers, as the outbox lists it."""
    return QueueItem(
        id=f"{one.id}:{row.handler}",
        queue="outbox",
        status=row.status,
        attempts=row.attempts,
        provider_id=one.provider_id,
        name=one.event,
        handler=row.handler,
        fence=row.fence,
        created_at=one.received_at,
    )


def _passes_on_anew(one: Delivery, again: bool) -> bool:
    """Whether its event must be made, or made anew, because the outbox does not have it."""
    if one.status == "dead":
        return True
    return again and (one.status == "superseded" or (one.status == "processed" and not one.passed_on))


async def end_quarantine(core: Core, delivery_id: str, *, release: bool, dry_run: bool) -> bool:
    """See ``Runtime.release_delivery`` and ``Runtime.drop_delivery``."""
    found = await delivery(core, delivery_id)
    if dry_run or found.status != "quarantined":
        return found.status == "quarantined"
    return await core.store.queues.end_quarantine(delivery_id, release=release)
