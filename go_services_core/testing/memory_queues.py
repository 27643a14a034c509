"""The inbox and the outbox of the memory store."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from ..errors import (
    BadInput,
    LeaseLost,
)
from ..model import (
    Accepted,
    Claim,
    Event,
    InboxDelivery,
    Outcome,
    Page,
    QueueItem,
    QueueName,
)
from ..protocols import Work
from .memory_tables import LIVE, Slot, Tables, page


class Queues:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def accept(self, delivery: InboxDelivery) -> Accepted:
        inbox = self._tables.inbox
        key = (delivery.provider_id, delivery.connection_id, delivery.delivery_id)
        seen = [
            slot
            for slot in inbox.values()
            if (known := slot.delivery) and (known.provider_id, known.connection_id, known.delivery_id) == key
        ]
        for slot in seen:
            if slot.delivery is not None and slot.delivery.digest == delivery.digest:
                return Accepted(id=slot.id, duplicate=True, quarantined=slot.status == "quarantined")
        status = "quarantined" if seen else "pending"
        inbox[delivery.id] = Slot(delivery.id, self._tables.clock.now(), delivery=delivery, status=status)
        return Accepted(id=delivery.id, quarantined=bool(seen))

    async def register_handlers(self, handlers: Mapping[str, str], *, now: datetime) -> None:
        for name, pattern in handlers.items():
            _, since = self._tables.handlers.get(name, (pattern, now))
            self._tables.handlers[name] = (pattern, since)

    async def claim(
        self, queue: QueueName, *, owner: str, lease: float, limit: int, handlers: Sequence[str] = ()
    ) -> builtins.list[Claim]:
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        tables = self._tables
        if queue == "outbox":
            self._fan_out()
        now = tables.clock.now()
        slots = tables.inbox if queue == "inbox" else tables.outbox
        due = [
            slot
            for slot in slots.values()
            if slot.status in LIVE and slot.due <= now and (queue == "inbox" or slot.handler in handlers)
        ]
        taken = sorted(due, key=lambda slot: (slot.due, slot.id))[:limit]
        for slot in taken:
            slot.status, slot.owner, slot.due = "processing", owner, tables.later(lease)
            slot.fence += 1
            slot.attempts += 1
        return [
            Claim(
                queue=queue,
                id=slot.id,
                owner=owner,
                fence=slot.fence,
                attempt=slot.attempts,
                delivery=slot.delivery,
                event=slot.event,
                handler=slot.handler,
            )
            for slot in sorted(taken, key=lambda slot: slot.id)
        ]

    def _fan_out(self) -> None:
        tables = self._tables
        for event in tables.events.values():
            if event.id in tables.heard:
                continue
            tables.heard.add(event.id)
            for name, (pattern, since) in tables.handlers.items():
                if since <= event.occurred_at and fnmatchcase(event.name, pattern):
                    id = f"{event.id}:{name}"
                    tables.outbox[id] = Slot(id, tables.clock.now(), event=event, handler=name)

    def _held(self, claim: Claim) -> Slot | None:
        slot = (self._tables.inbox if claim.queue == "inbox" else self._tables.outbox).get(claim.id)
        if slot is None or slot.status != "processing" or (slot.owner, slot.fence) != (claim.owner, claim.fence):
            return None
        return slot

    async def heartbeat(self, claims: Sequence[Claim], *, lease: float) -> builtins.list[str]:
        lost = []
        for claim in claims:
            slot = self._held(claim)
            if slot is None:
                lost.append(claim.id)
            else:
                slot.due = self._tables.later(lease)
        return lost

    async def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        error: str = "",
        delay: float = 0.0,
        events: Sequence[Event] = (),
        work: Work[Any] | None = None,
    ) -> None:
        if outcome != "done" and (work is not None or events):
            raise BadInput("Only the outcome 'done' commits work and events.", field="outcome")
        slot = self._held(claim)
        if slot is None:
            raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})
        self._tables.check_new(*events)
        if work is not None:
            for step in work():
                raise BadInput(f"The memory store runs no statements, and the work asked for {step!r}.", field="work")
        done = "processed" if claim.queue == "inbox" else "delivered"
        slot.status = {"done": done, "retry": "retry_ready", "dead": "dead"}[outcome]
        slot.owner, slot.error, slot.due = None, error, self._tables.later(delay)
        for event in events:
            self._tables.enqueue(event)

    async def requeue(self, queue: QueueName, item_id: str, *, handler: str | None = None) -> bool:
        event_id, _, named = item_id.partition(":")
        slots = self._tables.inbox if queue == "inbox" else self._tables.outbox
        dead = [
            slot
            for slot in slots.values()
            if slot.status == "dead"
            and (
                slot.id == item_id
                if slot.event is None
                else slot.event.id == event_id and (handler or named) in ("", slot.handler)
            )
        ]
        for slot in dead:
            slot.status, slot.attempts, slot.due = "pending", 0, self._tables.clock.now()
        return bool(dead)

    async def delivery(self, delivery_row_id: str) -> InboxDelivery | None:
        slot = self._tables.inbox.get(delivery_row_id)
        return None if slot is None else slot.delivery

    async def list(
        self, queue: QueueName, *, status: str | None = None, after: str | None = None, limit: int = 100
    ) -> Page[QueueItem]:
        items = [
            _item(queue, slot) for slot in (self._tables.inbox if queue == "inbox" else self._tables.outbox).values()
        ]
        if queue == "outbox":
            with_handler = {slot.event.id for slot in self._tables.outbox.values() if slot.event}
            for event in self._tables.events.values():
                if event.id not in with_handler:
                    heard = "delivered" if event.id in self._tables.heard else "pending"
                    items.append(_item(queue, Slot(event.id, event.occurred_at, event=event, status=heard)))
        return page([(item.id, item) for item in items if status in (None, item.status)], after, limit)


def _item(queue: QueueName, slot: Slot) -> QueueItem:
    if slot.delivery is not None:
        provider_id, name, created_at = slot.delivery.provider_id, slot.delivery.event, slot.delivery.received_at
    elif slot.event is not None:
        provider_id, name, created_at = slot.event.provider_id, slot.event.name, slot.event.occurred_at
    else:
        raise LookupError(slot.id)
    return QueueItem(
        id=slot.id,
        queue=queue,
        status=slot.status,
        attempts=slot.attempts,
        provider_id=provider_id,
        name=name,
        handler=slot.handler,
        error=slot.error,
        created_at=created_at,
    )
