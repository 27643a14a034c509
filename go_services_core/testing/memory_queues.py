"""The inbox, the outbox and the jobs of the memory store."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import evolve

from ..errors import BadInput, Conflict, IdempotencyMismatch, LeaseLost
from ..handled import Handled, Position, check_effect
from ..lifecycle import JobEvent, job_event
from ..model import (
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
from ..protocols import Work
from .memory_handlers import Handlers, item_of
from .memory_inbox import Inbox
from .memory_tables import LIVE, Slot, Tables, page

CLAIMED = {"inbox": "processing", "outbox": "processing", "jobs": "running"}
WAITING = {"inbox": "pending", "outbox": "pending", "jobs": "queued"}
DEAD = {"inbox": "dead", "outbox": "dead", "jobs": "failed"}
SETTLED = {
    "inbox": {"done": "processed", "retry": "retry_ready", "dead": "dead"},
    "outbox": {"done": "delivered", "retry": "retry_ready", "dead": "dead"},
    "jobs": {"done": "succeeded", "retry": "queued", "dead": "failed"},
}


class Queues(Inbox, Handlers):
    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self._slots = {"inbox": tables.inbox, "outbox": tables.outbox, "jobs": tables.jobs}

    async def enqueue(self, job: NewJob) -> tuple[str, bool]:
        tables = self._tables
        if not job.kind.strip():
            raise BadInput("A job needs a kind, which names the function that does it.", field="job.kind")
        if job.id in tables.jobs:
            raise Conflict(f"There is a job {job.id!r} already.")
        if job.connection_id is not None:
            tables.connection(job.connection_id)
        if job.idempotency_key is not None:
            if not job.idempotency_key.strip():
                raise BadInput("An idempotency key may not be blank.", field="job.idempotency_key")
            key = (str(job.scope or ""), job.provider_id, job.mode, job.idempotency_key)
            known = tables.jobs.get(tables.job_keys.get(key, ""))
            if known is not None and known.job is not None:
                if (known.job.connection_id, known.job.kind) != (job.connection_id, job.kind):
                    raise IdempotencyMismatch(
                        "This idempotency key was used for a job of another connection or kind.",
                        metadata={"job_id": known.id},
                    )
                return known.id, False
            tables.job_keys[key] = job.id
        kept = Job(
            id=job.id,
            kind=job.kind,
            provider_id=job.provider_id,
            scope=job.scope,
            connection_id=job.connection_id,
            mode=job.mode,
            requested_by=job.requested_by,
            order_key=job.order_key,
            payload=dict(job.payload),
            metadata=dict(job.metadata),
            checkpoint=None,
            status="queued",
            attempts=0,
            last_error="",
            created_at=job.created_at,
            updated_at=job.created_at,
        )
        tables.jobs[job.id] = Slot(job.id, tables.later(job.delay), job.created_at, job=kept, status="queued")
        tables.enqueue(job_event("job.queued", kept, fence=0, at=job.created_at))
        return job.id, True

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
        if limit < 1:
            raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
        tables = self._tables
        if queue == "outbox":
            self._fan_out()
        now = tables.clock.now()
        live = [slot for slot in self._slots[queue].values() if slot.status in LIVE]
        heads: dict[tuple[str | None, str], str] = {}
        for slot in live:
            if (key := _order(slot)) is not None:
                heads[key] = min(slot.id, heads.get(key, slot.id))
        due = [
            slot
            for slot in live
            if slot.due <= now
            and ((key := _order(slot)) is None or heads[key] == slot.id)
            and (slot.event is None or slot.handler in handlers)
            and (slot.job is None or slot.job.kind in kinds)
        ]
        if queue == "inbox":
            due = self._newest(due)
        taken = sorted(due, key=lambda slot: (slot.due, slot.id))[:limit]
        for slot in taken:
            slot.crashes += slot.status == CLAIMED["outbox"]
            slot.status, slot.owner, slot.due, slot.changed = CLAIMED[queue], owner, tables.later(lease), now
            slot.fence += 1
            slot.attempts += 1
        return [
            Claim(
                queue=queue,
                id=slot.id,
                owner=owner,
                fence=slot.fence,
                attempt=slot.attempts,
                crashes=slot.crashes if queue == "outbox" else 0,
                delivery=slot.delivery,
                event=slot.event,
                handler=slot.handler,
                job=_job(slot),
            )
            for slot in sorted(taken, key=lambda slot: slot.id)
        ]

    def _held(self, claim: Claim) -> Slot | None:
        slot = self._slots[claim.queue].get(claim.id)
        if slot is None or slot.status != CLAIMED[claim.queue]:
            return None
        return slot if (slot.owner, slot.fence) == (claim.owner, claim.fence) else None

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
        jobs: Sequence[NewJob] = (),
        position: Position | None = None,
        work: Work[Any] | None = None,
    ) -> bool:
        check_effect(claim, outcome, Handled(work=work, events=events, jobs=jobs, position=position))
        slot = self._held(claim)
        if slot is None:
            raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})
        newer = position is None or self._advances(str(claim.handler), position)
        if newer:
            self._tables.check_new(*events)
            with self._tables.unit():
                for job in jobs:
                    await self.enqueue(job)
                for step in work() if work is not None else ():
                    raise BadInput(
                        f"The memory store runs no statements, and the work asked for {step!r}.", field="work"
                    )
                for event in events:
                    self._tables.enqueue(event)
            if position is not None:
                self._tables.positions[str(claim.handler), position.key] = (position.at, self._tables.clock.now())
        slot.status, slot.changed = SETTLED[claim.queue][outcome], self._tables.clock.now()
        slot.owner, slot.error, slot.due, slot.crashes = None, error, self._tables.later(delay), 0
        if slot.job is not None and outcome != "retry":
            self._announce(slot, "job.succeeded" if outcome == "done" else "job.failed")
        return newer

    def _announce(self, slot: Slot, name: JobEvent) -> None:
        job = _job(slot)
        assert job is not None
        self._tables.enqueue(job_event(name, job, fence=slot.fence, at=slot.changed))

    async def settle_many(
        self, claims: Sequence[Claim], outcome: Outcome, *, error: str = "", delay: float = 0.0
    ) -> builtins.list[str]:
        lost = []
        for claim in claims:
            try:
                await self.settle(claim, outcome, error=error, delay=delay)
            except LeaseLost:
                lost.append(claim.id)
        return lost

    async def give_back(self, claims: Sequence[Claim], *, delay: float = 0.0) -> builtins.list[str]:
        lost = []
        for claim in claims:
            slot = self._held(claim)
            if slot is None:
                lost.append(claim.id)
                continue
            again = SETTLED[claim.queue]["retry"]
            slot.status = again if slot.attempts > 1 else WAITING[claim.queue]
            slot.attempts -= 1
            slot.owner, slot.due, slot.changed = None, self._tables.later(delay), self._tables.clock.now()
        return lost

    async def checkpoint(self, claim: Claim, text: str, *, lease: float) -> None:
        if claim.queue != "jobs":
            raise BadInput(f"Only jobs have a checkpoint, not the {claim.queue}.", field="claim")
        slot = self._held(claim)
        if slot is None:
            raise LeaseLost(metadata={"queue": claim.queue, "id": claim.id})
        slot.checkpoint, slot.due, slot.changed = text, self._tables.later(lease), self._tables.clock.now()

    async def requeue(self, queue: QueueName, item_id: str, *, handler: str | None = None) -> bool:
        event_id, _, named = item_id.partition(":")
        now = self._tables.clock.now()
        dead = [
            slot
            for slot in self._slots[queue].values()
            if slot.status == DEAD[queue]
            and (
                slot.id == item_id
                if slot.event is None
                else slot.event.id == event_id and (handler or named) in ("", slot.handler)
            )
        ]
        for slot in dead:
            slot.status, slot.attempts, slot.due, slot.changed = WAITING[queue], 0, now, now
            slot.crashes = 0
            if slot.job is not None:
                self._announce(slot, "job.requeued")
        return bool(dead)

    async def delivery(self, delivery_row_id: str) -> InboxDelivery | None:
        slot = self._tables.inbox.get(delivery_row_id)
        return None if slot is None else slot.delivery

    async def job(self, job_id: str) -> Job | None:
        slot = self._tables.jobs.get(job_id)
        return None if slot is None else _job(slot)

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
        if handler is not None and queue != "outbox":
            raise BadInput(f"Only the outbox has handlers, not the {queue}.", field="handler")
        items = [item_of(queue, slot) for slot in self._slots[queue].values()]
        if queue == "outbox":
            with_handler = {slot.event.id for slot in self._tables.outbox.values() if slot.event}
            for event in self._tables.events.values():
                if event.id not in with_handler:
                    heard = "delivered" if event.id in self._tables.heard else "pending"
                    at = event.occurred_at
                    items.append(item_of(queue, Slot(event.id, at, at, event=event, status=heard)))
        wanted = [
            (item.id, item)
            for item in items
            if status in (None, item.status)
            and provider_id in (None, item.provider_id)
            and name in (None, item.name)
            and handler in (None, item.handler)
            and (since is None or since <= item.created_at)
            and (until is None or item.created_at < until)
        ]
        return page(wanted, after, limit)


def _order(slot: Slot) -> tuple[str | None, str] | None:
    """Among what the slot keeps its place; None where it has no order."""
    group: str | None
    if slot.delivery is not None:
        group, key = slot.delivery.provider_id, slot.delivery.order_key
    elif slot.event is not None:
        group, key = slot.handler, slot.event.order_key
    elif slot.job is not None:
        group, key = slot.job.kind, slot.job.order_key
    else:
        raise LookupError(slot.id)
    return None if key is None else (group, key)


def _job(slot: Slot) -> Job | None:
    """The job as it stands."""
    if slot.job is None:
        return None
    states: dict[str, Any] = {"status": slot.status, "attempts": slot.attempts, "last_error": slot.error}
    return evolve(slot.job, **states, checkpoint=slot.checkpoint, updated_at=slot.changed)
