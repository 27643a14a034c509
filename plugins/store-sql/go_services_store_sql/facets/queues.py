"""The ``queues`` facet."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from go_services_core.errors import BadInput, LeaseLost
from go_services_core.handled import Handled, Position, check_effect
from go_services_core.model import (
    Claim,
    Event,
    InboxDelivery,
    Job,
    NewJob,
    Outcome,
    Page,
    QueueItem,
    QueueName,
)
from go_services_core.outbox import OutboxStatus
from go_services_core.protocols import Work

from .. import fan_out, handlers, inbox, jobs, outbox
from ..driver import Driver
from ..events import enqueue
from ..front import Front
from ..give_back import give_back
from ..jobs import enqueue as put
from ..positions import advance
from ..statement import Steps
from .inbox import SqlInbox
from .limits import at_least_one

HEARTBEAT = {"inbox": inbox.heartbeat, "outbox": outbox.heartbeat, "jobs": jobs.heartbeat}
SETTLE = {"inbox": inbox.settle, "outbox": outbox.settle, "jobs": jobs.settle}
SETTLE_MANY = {"inbox": inbox.settle_many, "outbox": outbox.settle_many, "jobs": jobs.settle_many}
PAGE = {"inbox": inbox.page, "outbox": outbox.page, "jobs": jobs.page}


def announced(claim: Claim) -> bool:
    """Whether the end of the claim is an event of its own."""
    return claim.job is not None and bool(claim.job.mode)


class SqlQueues(SqlInbox):
    """The ``queues`` facet."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self._due = Front(datetime.min.replace(tzinfo=UTC))
        self._events = Front("")

    async def enqueue(self, job: NewJob) -> tuple[str, bool]:
        return await self._driver.run(lambda: jobs.enqueue(job), alone=job.idempotency_key is None and not job.mode)

    async def register_handlers(self, handlers: Mapping[str, str], *, now: datetime) -> None:
        await self._driver.run(lambda: fan_out.register(handlers, now=now))

    async def claim(
        self,
        queue: QueueName,
        *,
        owner: str,
        lease: float,
        limit: int,
        handlers: Sequence[str] = (),
        kinds: Sequence[str] = (),
    ) -> builtins.list[Claim]:
        at_least_one(limit)
        if queue == "inbox":
            return await self._driver.run(
                lambda: inbox.claim(self._due, owner=owner, seconds=lease, limit=limit), alone=True
            )
        if queue == "jobs":
            return await self._driver.run(
                lambda: jobs.claim(owner=owner, seconds=lease, limit=limit, kinds=kinds), alone=True
            )
        return await self._driver.run(
            lambda: outbox.claim(self._events, owner=owner, seconds=lease, limit=limit, handlers=handlers)
        )

    async def heartbeat(self, claims: Sequence[Claim], *, lease: float) -> builtins.list[str]:
        def work() -> Steps[builtins.list[str]]:
            lost: builtins.list[str] = []
            for queue, unit in HEARTBEAT.items():
                held = [claim for claim in claims if claim.queue == queue]
                if held:
                    lost += yield from unit(held, seconds=lease)
            return lost

        return await self._driver.run(work, alone=len({claim.queue for claim in claims}) < 2)

    async def settle(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        error: str = "",
        delay: float = 0.0,
        events: Sequence[Event] = (),
        jobs: Sequence[NewJob] = (),
        position: Position | None = None,
        work: Work[Any] | None = None,
    ) -> bool:
        check_effect(claim, outcome, Handled(work=work, events=events, jobs=jobs, position=position))

        def unit() -> Steps[bool]:
            if not (yield from SETTLE[claim.queue](claim, outcome, error=error, delay=delay)):
                raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})
            if position is not None and not (yield from advance(str(claim.handler), position)):
                return False
            for event in events:
                yield from enqueue(event)
            for job in jobs:
                yield from put(job)
            if work is not None:
                yield from work()
            return True

        return await self._driver.run(unit, alone=not (events or jobs or position or work or announced(claim)))

    async def settle_many(
        self, claims: Sequence[Claim], outcome: Outcome, *, error: str = "", delay: float = 0.0
    ) -> builtins.list[str]:
        def work() -> Steps[builtins.list[str]]:
            lost: builtins.list[str] = []
            for queue, unit in SETTLE_MANY.items():
                held = [claim for claim in claims if claim.queue == queue]
                if held:
                    lost += yield from unit(held, outcome, error=error, delay=delay)
            return lost

        told = any(announced(claim) for claim in claims)
        return await self._driver.run(work, alone=len({claim.queue for claim in claims}) < 2 and not told)

    async def give_back(self, claims: Sequence[Claim], *, delay: float = 0.0) -> builtins.list[str]:
        def work() -> Steps[builtins.list[str]]:
            lost: set[str] = set()
            for queue in sorted({claim.queue for claim in claims}):
                held = [claim for claim in claims if claim.queue == queue]
                lost |= {*(yield from give_back(queue, held, delay=delay))}
            return [claim.id for claim in claims if claim.id in lost]

        return await self._driver.run(work, alone=len({claim.queue for claim in claims}) < 2)

    async def checkpoint(self, claim: Claim, text: str, *, lease: float) -> None:
        if claim.queue != "jobs":
            raise BadInput(f"Only jobs have a checkpoint, not the {claim.queue}.", field="claim")

        def unit() -> Steps[None]:
            if not (yield from jobs.checkpoint(claim, text, seconds=lease)):
                raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})

        await self._driver.run(unit, alone=True)

    async def requeue(self, queue: QueueName, item_id: str, *, handler: str | None = None) -> bool:
        if queue == "inbox":
            return await self._driver.run(lambda: inbox.requeue(item_id), alone=True)
        if queue == "jobs":
            return await self._driver.run(lambda: jobs.requeue(item_id))
        return await self._driver.run(lambda: outbox.requeue(item_id, handler=handler), alone=True)

    async def event(self, event_id: str) -> Event | None:
        return await self._driver.read(lambda: outbox.event(event_id))

    async def event_deliveries(self, event_id: str) -> builtins.list[QueueItem]:
        return await self._driver.read(lambda: outbox.deliveries(event_id))

    async def rearm(self, items: Sequence[QueueItem]) -> builtins.list[str]:
        if any(item.queue != "outbox" or item.handler is None for item in items):
            raise BadInput("Only deliveries of events to handlers can be made due again so.", field="items")
        return await self._driver.run(lambda: outbox.rearm(items), alone=True)

    async def backfill(
        self, handler: str, *, since: datetime, until: datetime, after: str | None = None, limit: int = 1000
    ) -> tuple[int, str | None]:
        at_least_one(limit)
        return await self._driver.run(
            lambda: handlers.backfill(handler, since=since, until=until, after=after, limit=limit)
        )

    async def forget_handler(self, handler: str, *, unseen: float, limit: int = 1000) -> int:
        at_least_one(limit)
        return await self._driver.run(lambda: handlers.forget(handler, unseen=unseen, limit=limit))

    async def outbox_status(self) -> OutboxStatus:
        return await self._driver.read(handlers.status, scan=True)

    async def delivery(self, delivery_row_id: str) -> InboxDelivery | None:
        return await self._driver.read(lambda: inbox.delivery(delivery_row_id))

    async def job(self, job_id: str) -> Job | None:
        return await self._driver.read(lambda: jobs.get(job_id))

    async def list(
        self,
        queue: QueueName,
        *,
        status: str | None = None,
        provider_id: str | None = None,
        name: str | None = None,
        handler: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[QueueItem]:
        at_least_one(limit)
        filters = {"status": status, "provider_id": provider_id, "name": name, "since": since, "until": until}
        if queue == "outbox":
            filters["handler"] = handler
        elif handler is not None:
            raise BadInput(f"Only the outbox has handlers, not the {queue}.", field="handler")
        return await self._driver.read(lambda: PAGE[queue](filters, after=after, limit=limit))
