"""Checks for stores: jobs, the third queue."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from attrs import evolve

from ...errors import BadInput, Conflict, ConnectionNotFound, IdempotencyMismatch, LeaseLost
from ...model import Claim, NewJob, Scope
from ...protocols import Store
from ..kit import check
from .store import SCOPE, established, event, new_id, now, refused
from .store_queues import items


def job(key: str | None = None, **fields: Any) -> NewJob:
    """A job that is new."""
    made = NewJob(
        id=new_id(),
        kind="kit.work",
        provider_id="kit",
        scope=SCOPE,
        payload={"items": [1, {"text": "ü"}]},
        metadata={"why": "kit"},
        idempotency_key=key,
        requested_by="kit",
        created_at=now(),
    )
    return evolve(made, **fields)


async def take_jobs(store: Store, *kinds: str, owner: str = "w", lease: float = 30, limit: int = 100) -> list[Claim]:
    """Claim jobs, of the kind that :func:`job` makes where none is named."""
    return await store.queues.claim("jobs", owner=owner, lease=lease, limit=limit, kinds=kinds or ("kit.work",))


@check("STORE-120", "store", needs=("connections", "queues"))
async def job_is_kept_and_claimed(store: Store) -> None:
    """A job is read back unchanged, with or without connection and scope, and claimed by its kind when it is due."""
    connected = await established(store)
    wanted = job(connection_id=connected.id, mode="full")
    bare = NewJob(id=new_id(), kind="kit.bare", created_at=now())
    later = job(delay=60.0)
    for one in (wanted, bare, later):
        assert await store.queues.enqueue(one) == (one.id, True)
    kept = await store.queues.job(wanted.id)
    assert kept is not None
    assert (kept.status, kept.attempts, kept.checkpoint, kept.last_error) == ("queued", 0, None, "")
    given = ("id", "kind", "provider_id", "scope", "connection_id", "mode", "requested_by", "payload", "metadata")
    for name in (*given, "created_at"):
        assert getattr(kept, name) == getattr(wanted, name), name
    alone = await store.queues.job(bare.id)
    assert alone is not None
    assert (alone.scope, alone.connection_id, alone.provider_id, alone.payload) == (None, None, "", {})
    assert await store.queues.job("none") is None
    await refused(Conflict, store.queues.enqueue(evolve(bare, kind="kit.work")))
    assert await store.queues.claim("jobs", owner="w", lease=30, limit=10) == []
    (claim,) = await take_jobs(store)
    assert claim.job is not None
    assert (claim.id, claim.queue, claim.attempt, claim.job.status) == (wanted.id, "jobs", 1, "running")
    assert claim.job.payload == wanted.payload
    assert [claim.id for claim in await take_jobs(store, "kit.bare", "kit.unknown")] == [bare.id]
    assert await take_jobs(store, "kit.bare", "kit.work") == []
    await refused(BadInput, take_jobs(store, limit=0))


@check("STORE-121", "store", needs=("queues",))
async def same_key_is_the_same_job(store: Store) -> None:
    """The same scope, provider, mode and key give the first job, also after it ended; anything else is a new one.

    A key that is taken does not keep its job from being tried again (P93).
    """
    answers = await asyncio.gather(*(store.queues.enqueue(job("k")) for _ in range(16)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    (first,) = await take_jobs(store)
    await store.queues.settle(first, "retry", error="busy")
    assert await store.queues.enqueue(job("k")) == (first.id, False)
    (claim,) = await take_jobs(store)
    assert (claim.id, claim.attempt) == (first.id, 2)
    await store.queues.settle(claim, "done")
    assert await store.queues.enqueue(job("k")) == (claim.id, False)
    others = [
        job("k2"),
        job("K"),
        job("k", scope=Scope("org", "u1")),
        job("k", scope=None),
        job("k", provider_id="kit2"),
        job("k", mode="delta"),
        job(),
        job(),
    ]
    for other in others:
        assert await store.queues.enqueue(other) == (other.id, True)
    assert await store.queues.enqueue(job("k", scope=None)) == (others[3].id, False)


@check("STORE-122", "store", needs=("connections", "queues"))
async def key_of_another_connection_is_refused(store: Store) -> None:
    """A key that was used for another connection or kind, an unknown connection and blank names are refused."""
    one, two = await established(store, "account-1"), await established(store, "account-2")
    first = job("k", connection_id=one.id)
    await store.queues.enqueue(first)
    for other in (job("k", connection_id=two.id), job("k"), job("k", connection_id=one.id, kind="kit.other")):
        await refused(IdempotencyMismatch, store.queues.enqueue(other))
    await refused(ConnectionNotFound, store.queues.enqueue(job("k3", connection_id="none")))
    for blank in (job(" "), job(kind=" ")):
        await refused(BadInput, store.queues.enqueue(blank))
    assert [item.id for item in await items(store, "jobs")] == [first.id]
    assert (await store.queues.enqueue(job("k3")))[1]


@check("STORE-123", "store", needs=("queues",))
async def job_is_claimed_by_one(store: Store) -> None:
    """Under 20 concurrent claimers every job has exactly one holder."""
    wanted = [job() for _ in range(30)]
    for one in wanted:
        await store.queues.enqueue(one)
    batches = await asyncio.gather(*(take_jobs(store, owner=f"w{number}", limit=3) for number in range(20)))
    assert max(map(len, batches)) <= 3
    assert sorted(claim.id for batch in batches for claim in batch) == sorted(one.id for one in wanted)
    assert await take_jobs(store) == []


@check("STORE-124", "store", needs=("queues",))
async def job_of_a_dead_worker_is_taken_over(store: Store) -> None:
    """After its lease a job goes on under a higher fence; its late worker can do nothing with it any more."""
    await store.queues.enqueue(job())
    (late,) = await take_jobs(store, owner="late", lease=0.05)
    await asyncio.sleep(0.1)
    (successor,) = await take_jobs(store, owner="next")
    assert (successor.id, successor.attempt) == (late.id, 2)
    assert successor.fence > late.fence
    for lost in (late, evolve(successor, owner="late"), evolve(late, owner="next")):
        await refused(LeaseLost, store.queues.settle(lost, "done", events=[event()]))
        await refused(LeaseLost, store.queues.checkpoint(lost, "late", lease=30))
        assert await store.queues.heartbeat([lost], lease=30) == [lost.id]
    assert await store.queues.heartbeat([successor], lease=30) == []
    assert await items(store, "outbox") == []
    kept = await store.queues.job(successor.id)
    assert kept is not None
    assert (kept.status, kept.checkpoint) == ("running", None)
    await store.queues.settle(successor, "done")
    await refused(LeaseLost, store.queues.checkpoint(successor, "late", lease=30))


@check("STORE-125", "store", needs=("queues",))
async def checkpoint_reaches_the_next_worker(store: Store) -> None:
    """A checkpoint extends the lease and is what the next claim of the job begins with."""
    await store.queues.enqueue(job())
    (claim,) = await take_jobs(store, lease=0.2)
    await store.queues.checkpoint(claim, "page 1", lease=30)
    await asyncio.sleep(0.3)
    assert await take_jobs(store) == []
    await store.queues.checkpoint(claim, "Page 2", lease=0.05)
    await asyncio.sleep(0.1)
    (successor,) = await take_jobs(store)
    assert successor.job is not None
    assert successor.job.checkpoint == "Page 2"
    await store.queues.settle(successor, "retry", error="busy")
    (again,) = await take_jobs(store)
    assert again.job is not None
    assert (again.job.checkpoint, again.job.last_error) == ("Page 2", "busy")


@check("STORE-126", "store", needs=("queues",))
async def job_ends_retries_or_fails(store: Store) -> None:
    """A retry waits for its delay, a failed job for an operator, and work and events commit with success only."""
    ran = []

    def work() -> Generator[Any, Any, None]:
        ran.append(True)
        yield from ()

    await store.queues.enqueue(job())
    (first,) = await take_jobs(store)
    await refused(BadInput, store.queues.settle(first, "retry", events=[event()]))
    await store.queues.settle(first, "retry", error="busy", delay=0.1)
    assert await take_jobs(store) == []
    assert [(item.status, item.error, item.name) for item in await items(store, "jobs")] == [
        ("queued", "busy", "kit.work")
    ]
    assert not await store.queues.requeue("jobs", first.id)
    await asyncio.sleep(0.15)
    (second,) = await take_jobs(store)
    await store.queues.settle(second, "dead", error="gave up")
    assert await take_jobs(store) == []
    assert [(item.status, item.error) for item in await items(store, "jobs", "failed")] == [("failed", "gave up")]
    answers = await asyncio.gather(*(store.queues.requeue("jobs", first.id) for _ in range(3)))
    assert sorted(answers) == [False, False, True]
    (third,) = await take_jobs(store)
    assert third.attempt == 1
    assert third.fence > second.fence
    told = event()
    await store.queues.settle(third, "done", events=[told], work=work)
    assert [item.id for item in await items(store, "outbox")] == [told.id]
    assert [item.status for item in await items(store, "jobs")] == ["succeeded"]
    assert ran
    assert not await store.queues.requeue("jobs", first.id)


@check("STORE-127", "store", needs=("queues",))
async def jobs_are_listed_by_key(store: Store) -> None:
    """Jobs come in pages by id and by status, and none is lost or doubled."""
    wanted = [job() for _ in range(5)]
    for one in wanted:
        await store.queues.enqueue(one)
    (claim,) = await take_jobs(store, limit=1)
    await store.queues.settle(claim, "dead")
    seen: list[str] = []
    after = None
    while True:
        page = await store.queues.list("jobs", after=after, limit=2)
        seen += [item.id for item in page.items]
        if (after := page.next) is None:
            break
    assert seen == sorted(one.id for one in wanted)
    assert [item.id for item in await items(store, "jobs", "failed")] == [claim.id]
    assert len(await items(store, "jobs", "queued")) == 4


@check("STORE-128", "store", needs=("queues",))
async def many_jobs_end_in_one_unit(store: Store) -> None:
    """Jobs end together; a claim that is lost is named, also beside the live claim of the same job."""
    for _ in range(3):
        await store.queues.enqueue(job())
    late = await take_jobs(store, lease=0.05)
    await asyncio.sleep(0.1)
    live = await take_jobs(store)
    assert len(live) == 3
    assert await store.queues.settle_many([late[0], *live[:2]], "done") == [late[0].id]
    assert await store.queues.settle_many([live[0], live[2]], "retry", error="busy", delay=30) == [live[0].id]
    states = {item.id: (item.status, item.error) for item in await items(store, "jobs")}
    assert [states[claim.id] for claim in live] == [("succeeded", ""), ("succeeded", ""), ("queued", "busy")]
    assert await take_jobs(store) == []
