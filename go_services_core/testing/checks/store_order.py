"""Checks for stores: the order of items with one key, and the filters of the queues' lists."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from ...errors import BadInput
from ...model import Claim, Event, QueueName
from ...protocols import Store
from ..kit import check
from .store import event, new_id, now, refused
from .store_jobs import job, take_jobs
from .store_queues import delivery, emit, items, take

Taken = dict[str, Claim]
"""Claims by the id of what was put."""


def ids(count: int) -> list[str]:
    """Ids of items, in order."""
    return sorted(new_id() for _ in range(count))


async def keeps_order(
    store: Store,
    queue: QueueName,
    put: Callable[[str, str | None, str], Awaitable[Any]],
    take: Callable[..., Awaitable[Sequence[Claim]]],
) -> None:
    """What every queue does with keys. ``put`` takes id, key, and one of two groups in which the key is another."""

    async def due(**options: Any) -> Taken:
        return {claim.id.partition(":")[0]: claim for claim in await take(**options)}

    first, second, third, free, other, apart = ids(6)
    for id, key, group in (
        (third, "k", "kit"),
        (free, None, "kit"),
        (second, "k", "kit"),
        (apart, "k", "kit2"),
        (first, "k", "kit"),
        (other, "K", "kit"),
    ):
        await put(id, key, group)
    taken = await due()
    assert sorted(taken) == sorted([first, free, other, apart])
    for id in (free, other, apart):
        await store.queues.settle(taken.pop(id), "done")
    assert await due() == {}

    await store.queues.settle(taken[first], "retry", delay=0.2)
    assert await due() == {}
    await asyncio.sleep(0.3)
    taken = await due(lease=0.05)
    assert list(taken) == [first]
    await asyncio.sleep(0.1)
    taken = await due()  # taken over, not passed over
    assert [(id, claim.attempt) for id, claim in taken.items()] == [(first, 3)]

    dead = taken[first]
    await store.queues.settle(dead, "dead", error="broken")
    assert [item.error for item in await items(store, queue) if item.id == dead.id] == ["broken"]
    batches = await asyncio.gather(*(due(owner=f"w{number}") for number in range(8)))
    (claim,) = [claim for batch in batches for claim in batch.values()]
    assert claim.id.startswith(second)
    await store.queues.settle(claim, "retry")
    assert await store.queues.requeue(queue, dead.id)
    for expected in (first, second, third):
        taken = await due()
        assert list(taken) == [expected]
        await store.queues.settle(taken[expected], "done")
    assert await due() == {}


@check("STORE-176", "store", needs=("queues",))
async def deliveries_of_a_key_keep_their_order(store: Store) -> None:
    """Of a provider's deliveries with one key only the first open one is claimed, also while it waits for a retry;
    once it is done or dead the next one follows, and a requeued one goes first."""

    async def put(id: str, key: str | None, group: str) -> None:
        sent = delivery(id, id=id, order_key=key, provider_id=group)
        await store.queues.accept(sent)
        assert await store.queues.delivery(id) == sent

    async def claim(**options: Any) -> list[Claim]:
        return await take(store, **options)

    await keeps_order(store, "inbox", put, claim)
    await refused(BadInput, _blank(lambda: delivery(order_key=" ")))


@check("STORE-177", "store", needs=("queues",))
async def events_of_a_key_keep_their_order(store: Store) -> None:
    """The same for the events of one key, each handler on its own."""
    await store.queues.register_handlers({"h": "kit.*", "other": "kit2.*", "late": "*"}, now=now())
    sent: dict[str, Event] = {}

    async def put(id: str, key: str | None, group: str) -> None:
        sent[id] = event(f"{group}.changed", id=id, order_key=key)
        await emit(store, sent[id])

    async def claim(**options: Any) -> list[Claim]:
        claims = await take(store, "h", "other", **options)
        assert all(claim.event is not None and claim.event == sent[claim.event.id] for claim in claims)
        return claims

    await keeps_order(store, "outbox", put, claim)
    keyed = sorted(one.id for one in sent.values() if one.order_key == "k")
    for expected in keyed:  # the other handlers have been there; this one begins at the beginning
        taken = {one.event.id: one for one in await take(store, "late") if one.event}
        assert [id for id in taken if id in keyed] == [expected]
        for one in taken.values():
            await store.queues.settle(one, "done")
    await refused(BadInput, _blank(lambda: event(order_key="")))


@check("STORE-178", "store", needs=("queues",))
async def jobs_of_a_key_keep_their_order(store: Store) -> None:
    """The same for the jobs of one kind and key."""

    async def put(id: str, key: str | None, group: str) -> None:
        await store.queues.enqueue(job(id=id, order_key=key, kind=group))
        kept = await store.queues.job(id)
        assert kept is not None
        assert kept.order_key == key

    async def claim(**options: Any) -> list[Claim]:
        return await take_jobs(store, "kit", "kit2", **options)

    await keeps_order(store, "jobs", put, claim)
    await refused(BadInput, _blank(lambda: job(order_key="\t")))


async def _blank(make: Callable[[], Any]) -> None:
    make()


@check("STORE-179", "store", needs=("queues",))
async def queues_are_listed_by_filter(store: Store) -> None:
    """Lists of all queues take provider, name and times, each alone and together, also across pages."""
    start = now().replace(microsecond=0) - timedelta(hours=1)
    one, two, three = (start + timedelta(minutes=minute) for minute in range(3))
    wanted = (("kit", "kit.a", one), ("kit2", "kit.a", two), ("kit", "kit.b", three), ("kit", "kit.a", three))
    made: dict[QueueName, list[str]] = {"inbox": ids(4), "outbox": ids(4), "jobs": ids(4)}
    events = [
        event(name, id=id, provider_id=provider, occurred_at=at)
        for id, (provider, name, at) in zip(made["outbox"], wanted, strict=True)
    ]
    await emit(store, *events)
    for number, (provider, name, at) in enumerate(wanted):
        id = made["inbox"][number]
        await store.queues.accept(delivery(id, id=id, provider_id=provider, event=name, received_at=at))
        await store.queues.enqueue(job(id=made["jobs"][number], provider_id=provider, kind=name, created_at=at))
    expectations: tuple[tuple[dict[str, Any], list[int]], ...] = (
        ({"provider_id": "kit"}, [0, 2, 3]),
        ({"name": "kit.a"}, [0, 1, 3]),
        ({"since": two}, [1, 2, 3]),
        ({"until": two}, [0]),
        ({"since": two, "until": three}, [1]),
        ({"provider_id": "kit", "name": "kit.a", "since": one, "until": three}, [0]),
        ({"provider_id": "KIT"}, []),
    )
    for queue, known in made.items():
        for wished, places in expectations:
            # The inbox also has what carried the events.
            filters = {"until": three + timedelta(minutes=1), **wished}
            seen: list[str] = []
            after = None
            while True:
                page = await store.queues.list(queue, after=after, limit=2, **filters)
                seen += [item.id for item in page.items]
                if (after := page.next) is None:
                    break
            assert seen == [known[place] for place in places], (queue, filters)
    assert len((await store.queues.list("jobs", status="queued", name="kit.a")).items) == 3
    assert (await store.queues.list("jobs", status="failed", name="kit.a")).items == ()
    (carrier,) = (await store.queues.list("inbox", status="processed", provider_id="kit")).items
    assert carrier.id not in made["inbox"]
