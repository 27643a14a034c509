"""Checks for stores: who works on the queues, what waits there, and claims that are given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from attrs import evolve

from ...errors import BadInput, IdempotencyMismatch, LeaseLost
from ...model import Claim
from ...protocols import Store
from ...worker_status import KindCounts, WorkerProcess
from ..kit import check
from .store import event, new_id, now, refused
from .store_jobs import job, take_jobs
from .store_leases import RESULT
from .store_queues import delivery, emit, items, take


def worker(id: str) -> WorkerProcess:
    """A process that has just started."""
    return WorkerProcess(id=id, host="kit", pid=7, started_at=now(), kinds=("inbox", "outbox"))


@check("STORE-320", "store", needs=("workers",))
async def process_is_alive_until_its_beat_is_overdue(store: Store) -> None:
    """A beat keeps a process alive for its seconds, with its counts; one that died is shown, then forgotten."""
    workers = store.workers
    first, second = worker("a"), worker("b")
    counted = KindCounts(done=3, failed=1, last_success=now(), last_failure=now() - timedelta(1), error="X")
    await workers.beat(first, seconds=30, forget=60)
    await workers.beat(evolve(first, counts={"inbox": counted}), seconds=30, forget=60)
    await workers.beat(second, seconds=0.05, forget=60)
    await asyncio.sleep(0.1)
    found = (await workers.list()).items
    assert [(one.id, one.alive) for one in found] == [("a", True), ("b", False)]
    assert found[0] == evolve(first, counts={"inbox": counted}, age=found[0].age, alive=True)
    assert 0 < found[1].age < 30
    page = await workers.list(limit=1)
    assert [one.id for one in page.items] == ["a"]
    assert [one.id for one in (await workers.list(after=page.next)).items] == ["b"]
    await workers.beat(first, seconds=30, forget=0)
    assert [one.id for one in (await workers.list()).items] == ["a"]
    assert await workers.leave("a")
    assert not await workers.leave("a")
    assert (await workers.list()).items == ()
    await refused(BadInput, workers.list(limit=0))


@check("STORE-321", "store", needs=("workers", "queues"))
async def backlog_counts_what_is_due_and_what_is_dead(store: Store) -> None:
    """What could be claimed is due: new, waiting no longer, or held by a lease that ended; what is held is not."""
    assert [(queue.queue, queue.due, queue.lag, queue.dead) for queue in await store.workers.backlog(most=10)] == [
        ("inbox", 0, 0.0, 0),
        ("outbox", 0, 0.0, 0),
        ("jobs", 0, 0.0, 0),
    ]
    await store.queues.register_handlers({"h": "*"}, now=now() - timedelta(1))
    await emit(store, event(), event())
    for number in range(3):
        await store.queues.accept(delivery(f"d{number}"))
        await store.queues.enqueue(job())
    await store.queues.enqueue(job(delay=60))
    (dying,) = await take(store, limit=1)
    await store.queues.settle(dying, "dead")
    await take(store, lease=0.05, limit=1)
    await take(store, limit=1)
    (failing,) = await take_jobs(store, limit=1)
    await store.queues.settle(failing, "dead")
    await asyncio.sleep(0.1)
    inbox, outbox, jobs = await store.workers.backlog(most=10)
    assert [(queue.due, queue.dead) for queue in (inbox, outbox, jobs)] == [(1, 1), (2, 0), (2, 1)]
    assert all(0 < queue.lag < 30 for queue in (inbox, outbox, jobs))
    assert [queue.due for queue in await store.workers.backlog(most=1)] == [1, 1, 1]
    (first, _) = await take(store, "h")
    await store.queues.settle(first, "dead")
    _, outbox, _ = await store.workers.backlog(most=10)
    assert (outbox.due, outbox.lag, outbox.dead) == (0, 0.0, 1)
    await refused(BadInput, store.workers.backlog(most=0))


@check("STORE-322", "store", needs=("queues",))
async def claim_that_is_given_back_is_due_at_once(store: Store) -> None:
    """Given back, an item is as before its claim but for the fence; a claim that was lost gives nothing back."""
    await store.queues.register_handlers({"h": "*"}, now=now() - timedelta(1))
    await emit(store, event())
    await store.queues.accept(delivery("d"))
    await store.queues.enqueue(job())
    claims = [*await take(store), *await take(store, "h"), *await take_jobs(store)]
    assert [claim.attempt for claim in claims] == [1, 1, 1]
    assert await store.queues.give_back(claims) == []
    assert await store.queues.give_back(claims) == [claim.id for claim in claims]
    assert await _statuses(store, claims) == ["pending", "pending", "queued"]
    again = [*await take(store), *await take(store, "h"), *await take_jobs(store)]
    assert [(claim.id, claim.attempt) for claim in again] == [(claim.id, 1) for claim in claims]
    assert all(one.fence > other.fence for one, other in zip(again, claims, strict=True))
    assert await store.queues.give_back(claims) == [claim.id for claim in claims]
    for claim in again:
        await store.queues.settle(claim, "retry", error="no")
    tried = [*await take(store), *await take(store, "h"), *await take_jobs(store)]
    assert [claim.attempt for claim in tried] == [2, 2, 2]
    await store.queues.give_back(tried)
    assert await _statuses(store, tried) == ["retry_ready", "retry_ready", "queued"]
    for claim in [*await take(store), *await take(store, "h"), *await take_jobs(store)]:
        assert claim.attempt == 2
        await store.queues.settle(claim, "done")


async def _statuses(store: Store, claims: Sequence[Claim]) -> list[str]:
    return [item.status for claim in claims for item in await items(store, claim.queue) if item.id == claim.id]


@check("STORE-323", "store", needs=("queues", "once"))
async def command_ends_together_with_what_follows_from_it(store: Store) -> None:
    """Events and jobs are kept with the result of a command, or, where its holder lost it, not at all."""
    once, follows = store.once, job("k")
    begun = await once.begin("command", "c", digest=b"d", owner="a", seconds=30)
    told = event()
    await refused(BadInput, once.finish("command", "c", owner="a", fence=begun.fence, ok=False, jobs=[follows]))
    await refused(
        LeaseLost, once.finish("command", "c", owner="b", fence=begun.fence, ok=True, events=[told], jobs=[follows])
    )
    assert (await items(store, "outbox"), await items(store, "jobs")) == ([], [])
    await once.finish(
        "command", "c", owner="a", fence=begun.fence, ok=True, result=RESULT, events=[told], jobs=[follows]
    )
    assert [item.id for item in await items(store, "outbox")] == [told.id]
    assert [item.id for item in await items(store, "jobs")] == [follows.id]
    again = await once.begin("command", "c", digest=b"d", owner="b", seconds=30)
    assert (again.state, again.result) == ("done", RESULT)
    other = await once.begin("command", "d", digest=b"d", owner="a", seconds=30)
    clash = evolve(job("k"), id=new_id(), kind="kit.other")
    ending = once.finish("command", "d", owner="a", fence=other.fence, ok=True, events=[event()], jobs=[clash])
    await refused(IdempotencyMismatch, ending)
    assert len(await items(store, "outbox")) == 1
    assert (await once.begin("command", "d", digest=b"d", owner="b", seconds=30)).state == "running"
