"""Events and their handlers in the memory store."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from ..errors import BadInput, Conflict, NotFound
from ..handled import Position
from ..model import Event, QueueItem, QueueName
from ..outbox import HandlerStatus, OutboxStatus
from .memory_tables import Slot, Tables

ENDED = ("delivered", "dead")


class Handlers:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def register_handlers(self, handlers: Mapping[str, str], *, now: datetime) -> None:
        for name, pattern in handlers.items():
            if not pattern:
                if name in self._tables.handlers:
                    self._tables.handlers[name] = ("", self._tables.handlers[name][1])
                continue
            _, since = self._tables.handlers.get(name, (pattern, now))
            self._tables.handlers[name] = (pattern, since)
            self._tables.seen[name] = self._tables.clock.now()

    def _fan_out(self) -> None:
        tables = self._tables
        for event in tables.events.values():
            if event.id in tables.heard:
                continue
            now = tables.clock.now()
            tables.heard[event.id] = now
            for name, (pattern, since) in tables.handlers.items():
                if since <= event.occurred_at and fnmatchcase(event.name, pattern):
                    self._deliver(event, name)

    def _deliver(self, event: Event, handler: str) -> None:
        id, now = f"{event.id}:{handler}", self._tables.clock.now()
        self._tables.outbox[id] = Slot(id, now, now, event=event, handler=handler)

    def _advances(self, handler: str, position: Position) -> bool:
        known = self._tables.positions.get((handler, position.key))
        return known is None or known[0] < position.at

    async def event(self, event_id: str) -> Event | None:
        return self._tables.events.get(event_id)

    async def event_deliveries(self, event_id: str) -> builtins.list[QueueItem]:
        slots = [slot for slot in self._tables.outbox.values() if slot.event is not None and slot.event.id == event_id]
        return [item_of("outbox", slot) for slot in sorted(slots, key=lambda slot: slot.id)]

    async def rearm(self, items: Sequence[QueueItem]) -> builtins.list[str]:
        if any(item.queue != "outbox" or item.handler is None for item in items):
            raise BadInput("Only deliveries of events to handlers can be made due again so.", field="items")
        done = []
        for item in items:
            slot = self._tables.outbox.get(item.id)
            if slot is None or slot.status not in ENDED or (slot.status, slot.fence) != (item.status, item.fence):
                continue
            now = self._tables.clock.now()
            slot.status, slot.attempts, slot.crashes, slot.due, slot.changed = "pending", 0, 0, now, now
            done.append(slot.id)
        return done

    async def backfill(
        self, handler: str, *, since: datetime, until: datetime, after: str | None = None, limit: int = 1000
    ) -> tuple[int, str | None]:
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        tables = self._tables
        if handler not in tables.handlers:
            raise NotFound(f"No handler {handler!r} is registered.", field="handler")
        pattern, _ = tables.handlers[handler]
        ids = [id for id in sorted(tables.events) if id > (after or "")][:limit]
        wanted = [
            event
            for event in map(tables.events.__getitem__, ids)
            if fnmatchcase(event.name, pattern)
            and since <= event.occurred_at < until
            and f"{event.id}:{handler}" not in tables.outbox
        ]
        for event in wanted:
            self._deliver(event, handler)
        return len(wanted), ids[-1] if len(ids) == limit else None

    async def forget_handler(self, handler: str, *, unseen: float, limit: int = 1000) -> int:
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        tables = self._tables
        seen = tables.seen.get(handler)
        if seen is not None and seen > tables.later(-unseen):
            raise Conflict(f"A process has said within the last {unseen:g} seconds that it has {handler!r}.")
        tables.handlers.pop(handler, None)
        tables.seen.pop(handler, None)
        open = [id for id, slot in tables.outbox.items() if slot.handler == handler and slot.status != "delivered"]
        for id in open[:limit]:
            del tables.outbox[id]
        if not open:
            for key in [key for key in tables.positions if key[0] == handler]:
                del tables.positions[key]
        return min(len(open), limit)

    async def outbox_status(self) -> OutboxStatus:
        tables = self._tables
        now = tables.clock.now()
        waiting = [event.occurred_at for event in tables.events.values() if event.id not in tables.heard]
        names = {slot.handler for slot in tables.outbox.values() if slot.handler and slot.status != "delivered"}
        return OutboxStatus(
            now=now,
            waiting=len(waiting),
            oldest_at=min(waiting, default=None),
            handlers=tuple(self._status(name, now) for name in sorted(names | set(tables.handlers))),
        )

    def _status(self, name: str, now: datetime) -> HandlerStatus:
        slots = [slot for slot in self._tables.outbox.values() if slot.handler == name]
        open = [slot for slot in slots if slot.status not in ENDED]
        pattern, since = self._tables.handlers.get(name, (None, None))
        lag = max((now - slot.due for slot in open), default=timedelta())
        return HandlerStatus(
            name=name,
            pattern=pattern,
            created_at=since,
            seen_at=self._tables.seen.get(name),
            pending=sum(slot.status == "pending" for slot in open),
            retry=sum(slot.status == "retry_ready" for slot in open),
            running=sum(slot.status == "processing" for slot in open),
            dead=sum(slot.status == "dead" for slot in slots),
            oldest_at=min((slot.event.occurred_at for slot in open if slot.event), default=None),
            lag=max(lag.total_seconds(), 0.0),
        )


def item_of(queue: QueueName, slot: Slot) -> QueueItem:
    """How the queue lists the slot."""
    if slot.delivery is not None:
        provider_id, name, created_at = slot.delivery.provider_id, slot.delivery.event, slot.delivery.received_at
    elif slot.event is not None:
        provider_id, name, created_at = slot.event.provider_id, slot.event.name, slot.event.occurred_at
    elif slot.job is not None:
        provider_id, name, created_at = slot.job.provider_id, slot.job.kind, slot.job.created_at
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
        fence=slot.fence,
        created_at=created_at,
    )
