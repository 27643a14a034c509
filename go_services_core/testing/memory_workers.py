"""The workers of the memory store, and what waits in its queues."""

from __future__ import annotations

import builtins
from datetime import datetime

from attrs import evolve

from ..errors import BadInput
from ..model import Page, QueueName
from ..worker_status import Backlog, WorkerProcess
from .memory_queues import DEAD
from .memory_tables import LIVE, Tables, page


class Workers:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def beat(self, worker: WorkerProcess, *, seconds: float, forget: float) -> None:
        workers, now = self._tables.workers, self._tables.clock.now()
        known = workers.get(worker.id, (worker, now, now))[0]
        workers[worker.id] = (evolve(known, counts=dict(worker.counts)), now, self._tables.later(seconds))
        for id, (_, _, until) in list(workers.items()):
            if until < self._tables.later(-forget):
                del workers[id]

    async def leave(self, worker_id: str) -> bool:
        return self._tables.workers.pop(worker_id, None) is not None

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[WorkerProcess]:
        now = self._tables.clock.now()
        found = [
            (id, evolve(worker, age=(now - beat).total_seconds(), alive=until > now))
            for id, (worker, beat, until) in self._tables.workers.items()
        ]
        return page(found, after, limit)

    async def backlog(self, *, most: int) -> builtins.list[Backlog]:
        if most < 1:
            raise BadInput(f"A limit is at least 1, not {most}.", field="limit")
        tables = self._tables
        new = [event.occurred_at for event in tables.events.values() if event.id not in tables.heard]
        inbox, outbox, jobs = tables.inbox, tables.outbox, tables.jobs
        return [
            self._waiting("inbox", [(slot.status, slot.due) for slot in inbox.values()], most),
            self._waiting(
                "outbox",
                [*((slot.status, slot.due) for slot in outbox.values()), *(("pending", at) for at in new)],
                most,
            ),
            self._waiting("jobs", [(slot.status, slot.due) for slot in jobs.values()], most),
        ]

    def _waiting(self, queue: QueueName, rows: builtins.list[tuple[str, datetime]], most: int) -> Backlog:
        now = self._tables.clock.now()
        due = [at for status, at in rows if status in LIVE and at <= now]
        dead = [status for status, _ in rows if status == DEAD[queue]]
        lag = (now - min(due)).total_seconds() if due else 0.0
        return Backlog(queue=queue, due=min(len(due), most), lag=lag, dead=min(len(dead), most))
