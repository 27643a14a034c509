"""The deliveries of the memory store."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import evolve

from ..deliveries import Delivery, DeliveryStatus, HandlerState
from ..delivery_specs import Burst
from ..model import Accepted, Claim, Event, InboxDelivery, Page
from .memory_tables import Slot, Tables, page


class Inbox:
    """Part of ``Queues``."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    if TYPE_CHECKING:

        def _held(self, claim: Claim) -> Slot | None: ...

    async def accept(self, delivery: InboxDelivery, *, burst: Burst | None = None) -> Accepted:
        inbox, now = self._tables.inbox, self._tables.clock.now()
        key = (delivery.provider_id, delivery.connection_id, delivery.delivery_id)
        seen = [
            slot
            for slot in inbox.values()
            if (known := slot.delivery) and (known.provider_id, known.connection_id, known.delivery_id) == key
        ]
        for slot in seen:
            if slot.delivery is not None and slot.delivery.digest == delivery.digest:
                return Accepted(id=slot.id, duplicate=True, quarantined=slot.status == "quarantined")
        if seen:
            kept = evolve(delivery, burst_key=None)
            inbox[delivery.id] = Slot(
                delivery.id, now, now, delivery=kept, status="quarantined", variant=delivery.digest
            )
            return Accepted(id=delivery.id, quarantined=True)
        if burst is None or delivery.burst_key is None:
            inbox[delivery.id] = Slot(delivery.id, now, now, delivery=evolve(delivery, burst_key=None))
            return Accepted(id=delivery.id)
        others = self._of_burst(delivery)
        newest = max(others, key=lambda slot: slot.id, default=None)
        due, until = _timing(burst, newest, now)
        waits = any(slot.status == "pending" for slot in others if slot.id < delivery.id)
        inbox[delivery.id] = Slot(delivery.id, due, now, delivery=delivery, burst_until=until)
        return Accepted(id=delivery.id, supersedes=waits)

    def _of_burst(self, delivery: InboxDelivery) -> builtins.list[Slot]:
        key = (delivery.provider_id, delivery.burst_key)
        return [
            slot
            for slot in self._tables.inbox.values()
            if slot.status != "superseded"
            and (one := slot.delivery) is not None
            and one.burst_key is not None
            and (one.provider_id, one.burst_key) == key
        ]

    def _newest(self, due: Sequence[Slot]) -> builtins.list[Slot]:
        """Those of ``due`` that no newer one takes the place of; the others are superseded."""
        left = []
        for slot in due:
            assert slot.delivery is not None
            if any(other.id > slot.id for other in self._of_burst(slot.delivery)):
                slot.status, slot.owner, slot.changed = "superseded", None, self._tables.clock.now()
                slot.fence += 1
            else:
                left.append(slot)
        return left

    async def pass_on(self, pairs: Sequence[tuple[Claim, Event]]) -> builtins.list[str]:
        lost = []
        for claim, event in pairs:
            slot = self._held(claim)
            if slot is None:
                lost.append(claim.id)
                continue
            slot.status, slot.owner, slot.error, slot.changed = "processed", None, "", self._tables.clock.now()
            if event.id not in self._tables.events:
                self._tables.enqueue(event)
        return lost

    async def deliveries(
        self,
        *,
        provider_id: str | None = None,
        connection_id: str | None = None,
        status: DeliveryStatus | None = None,
        event: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        dead: bool = False,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Delivery]:
        shown = [self._delivery(slot, slot.delivery) for slot in self._tables.inbox.values() if slot.delivery]
        wanted = [
            (one.id, one)
            for one in shown
            if provider_id in (None, one.provider_id)
            and connection_id in (None, one.connection_id)
            and status in (None, one.status)
            and event in (None, one.event)
            and (since is None or since <= one.received_at)
            and (until is None or one.received_at < until)
            and (one.dead or not dead)
        ]
        return page(wanted, after, limit)

    async def delivery_state(self, delivery_row_id: str) -> Delivery | None:
        slot = self._tables.inbox.get(delivery_row_id)
        return None if slot is None or slot.delivery is None else self._delivery(slot, slot.delivery)

    def _delivery(self, slot: Slot, delivery: InboxDelivery) -> Delivery:
        handlers = [
            HandlerState(
                handler=one.handler,
                status=one.status,
                attempts=one.attempts,
                fence=one.fence,
                error=one.error,
                next_attempt_at=one.due if one.status not in ("delivered", "dead") else None,
                updated_at=one.changed,
            )
            for one in self._tables.outbox.values()
            if one.event is not None and one.event.id == slot.id and one.handler is not None
        ]
        return Delivery(
            id=slot.id,
            provider_id=delivery.provider_id,
            connection_id=delivery.connection_id,
            scope=delivery.scope,
            delivery_id=delivery.delivery_id,
            event=delivery.event,
            channel=delivery.channel,
            resource=delivery.resource,
            status=slot.status,  # type: ignore[arg-type]
            attempts=slot.attempts,
            fence=slot.fence,
            error=slot.error,
            received_at=delivery.received_at,
            next_attempt_at=slot.due if slot.status in ("pending", "retry_ready", "processing") else None,
            passed_on=slot.id in self._tables.events,
            handlers=tuple(sorted(handlers, key=lambda one: one.handler)),
        )

    async def rearm_delivery(self, delivery_row_id: str, *, fence: int) -> bool:
        slot = self._tables.inbox.get(delivery_row_id)
        if slot is None or slot.delivery is None or slot.fence != fence:
            return False
        gone = slot.status == "processed" and slot.id not in self._tables.events
        if slot.status not in ("dead", "superseded") and not gone:
            return False
        slot.delivery, slot.burst_until = evolve(slot.delivery, burst_key=None), None
        self._wait(slot)
        return True

    async def end_quarantine(self, delivery_row_id: str, *, release: bool) -> bool:
        slot = self._tables.inbox.get(delivery_row_id)
        if slot is None or slot.status != "quarantined":
            return False
        self._wait(slot)
        if not release:
            slot.status = "dropped"
        return True

    def _wait(self, slot: Slot) -> None:
        now = self._tables.clock.now()
        slot.status, slot.attempts, slot.owner, slot.due, slot.changed = "pending", 0, None, now, now


def _timing(burst: Burst, newest: Slot | None, now: datetime) -> tuple[datetime, datetime]:
    """When a new delivery is due, and what it leaves to the next one."""
    window = timedelta(seconds=burst.window)
    waits = newest is not None and newest.status == "pending"
    if burst.mode == "debounce":
        end = newest.burst_until if newest is not None and waits else None
        until = end or now + timedelta(seconds=max(burst.longest, burst.window))
        return min(now + window, until), until
    earlier = None if newest is None else newest.due if waits else newest.burst_until
    due = max(earlier or now, now)
    return due, due + window
