"""The ``queues`` facet."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from go_services_core.errors import BadInput, LeaseLost
from go_services_core.model import (
    Accepted,
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
from go_services_core.protocols import Work

from .. import inbox, jobs, outbox
from ..driver import Driver
from ..events import enqueue
from ..statement import Steps
from .limits import at_least_one

HEARTBEAT = {"inbox": inbox.heartbeat, "outbox": outbox.heartbeat, "jobs": jobs.heartbeat}
SETTLE = {"inbox": inbox.settle, "outbox": outbox.settle, "jobs": jobs.settle}
SETTLE_MANY = {"inbox": inbox.settle_many, "outbox": outbox.settle_many, "jobs": jobs.settle_many}
PAGE = {"inbox": inbox.page, "outbox": outbox.page, "jobs": jobs.page}


class SqlQueues:
    """The ``queues`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def accept(self, delivery: InboxDelivery) -> Accepted:
        return await self._driver.run(lambda: inbox.accept(delivery), alone=True)

    async def enqueue(self, job: NewJob) -> tuple[str, bool]:
        return await self._driver.run(lambda: jobs.enqueue(job), alone=job.idempotency_key is None)

    async def register_handlers(self, handlers: Mapping[str, str], *, now: datetime) -> None:
        await self._driver.run(lambda: outbox.register(handlers, now=now))

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
            return await self._driver.run(lambda: inbox.claim(owner=owner, seconds=lease, limit=limit), alone=True)
        if queue == "jobs":
            return await self._driver.run(
                lambda: jobs.claim(owner=owner, seconds=lease, limit=limit, kinds=kinds), alone=True
            )
        return await self._driver.run(lambda: outbox.claim(owner=owner, seconds=lease, limit=limit, handlers=handlers))

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
        work: Work[Any] | None = None,
    ) -> None:
        if outcome != "done" and (work is not None or events):
            raise BadInput("Only the outcome 'done' commits work and events.", field="outcome")

        def unit() -> Steps[None]:
            if not (yield from SETTLE[claim.queue](claim, outcome, error=error, delay=delay)):
                raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})
            for event in events:
                yield from enqueue(event)
            if work is not None:
                yield from work()

        last = claim.queue == "outbox" and outcome == "done"  # may end the event as well
        await self._driver.run(unit, alone=not (events or work or last))

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

        queues = {claim.queue for claim in claims}
        last = "outbox" in queues and outcome == "done"  # may end events as well
        return await self._driver.run(work, alone=len(queues) < 2 and not last)

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
            return await self._driver.run(lambda: jobs.requeue(item_id), alone=True)
        return await self._driver.run(lambda: outbox.requeue(item_id, handler=handler), alone=True)

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
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[QueueItem]:
        at_least_one(limit)
        filters = {"status": status, "provider_id": provider_id, "name": name, "since": since, "until": until}
        return await self._driver.read(lambda: PAGE[queue](filters, after=after, limit=limit))
