"""Checks for stores: what a handler's settlement commits, and what an operator does with the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any

from attrs import evolve

from ...errors import BadInput, Conflict, LeaseLost, NotFound
from ...handled import Position
from ...model import Event
from ...outbox import HandlerStatus
from ...protocols import Store
from ..kit import check
from .store import event, new_id, now, refused
from .store_jobs import job, take_jobs
from .store_order import ids
from .store_queues import delivery, emit, items, take

FOREVER = timedelta(days=36_500)


def broken() -> Generator[Any, Any, None]:
    """A work that fails."""
    yield from ()
    raise ArithmeticError("kit")


async def status_of(store: Store, handler: str) -> HandlerStatus:
    """How far the handler is."""
    (found,) = [one for one in (await store.queues.outbox_status()).handlers if one.name == handler]
    return found


@check("STORE-380", "store", needs=("queues",))
async def jobs_commit_with_the_settlement(store: Store) -> None:
    """Jobs are there with the settlement or not at all, and only with ``done``."""

    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, event())
    (claim,) = await take(store, "h")
    wanted = [job(), job("key")]
    await refused(ArithmeticError, store.queues.settle(claim, "done", jobs=wanted, work=broken))
    await refused(BadInput, store.queues.settle(claim, "retry", jobs=wanted))
    assert await items(store, "jobs") == []
    assert await store.queues.settle(claim, "done", jobs=[*wanted, job("key")])
    assert sorted(one.id for one in await take_jobs(store)) == sorted(one.id for one in wanted)
    await refused(LeaseLost, store.queues.settle(claim, "done", jobs=[job()]))
    assert len(await items(store, "jobs")) == 2


@check("STORE-381", "store", needs=("queues",))
async def position_guards_newer_state(store: Store) -> None:
    """Of one handler and key only what is newer has an effect; what is not is done all the same (P69)."""
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    effects: list[str] = []

    async def settle(handler: str, key: str, at: int) -> bool:
        await emit(store, event())
        (claim,) = await take(store, handler)
        told = event("kit.effect", occurred_at=now() - FOREVER)
        done = await store.queues.settle(
            claim, "done", events=[told], jobs=[job(id=told.id)], position=Position(key, at)
        )
        if done:
            effects.append(told.id)
        assert [item.status for item in await store.queues.event_deliveries(str(claim.event and claim.event.id))][
            "ab".index(handler)
        ] == "delivered"
        return done

    assert [await settle("a", "k", at) for at in (5, 5, 4, 6, -(2**62), 2**62)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    assert await settle("a", "other", 1)
    assert [item.id for item in await items(store, "jobs")] == sorted(effects)
    known = [item.id for item in await items(store, "outbox") if item.name == "kit.effect"]
    assert sorted(set(known)) == sorted(effects)
    await store.queues.accept(delivery(new_id()))
    (inbox,) = await take(store)
    await refused(BadInput, store.queues.settle(inbox, "done", position=Position("k", 1)))
    for _ in await take(store, "b"):
        pass  # another handler begins on its own
    await emit(store, event())
    (other,) = await take(store, "b")
    assert await store.queues.settle(other, "done", position=Position("k", 1))


@check("STORE-382", "store", needs=("queues",))
async def position_is_moved_by_one(store: Store) -> None:
    """Of concurrent settlements under one position only one has an effect, and one that fails moves nothing."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, *(event() for _ in range(9)))
    claims = await take(store, "h")

    spare = claims.pop()
    await refused(ArithmeticError, store.queues.settle(spare, "done", position=Position("k", 9), work=broken))
    done = await asyncio.gather(*(store.queues.settle(claim, "done", position=Position("k", 7)) for claim in claims))
    assert sorted(done) == [False] * 7 + [True]
    assert await store.queues.settle(spare, "done", position=Position("k", 8))


@check("STORE-383", "store", needs=("queues",))
async def event_keeps_its_version_and_lists_its_deliveries(store: Store) -> None:
    """An event is read back unchanged, also its version, and tells the state of each of its handlers."""
    await store.queues.register_handlers({"a": "*", "b": "*", "c": "none"}, now=now())
    told = event(version=3)
    await emit(store, told)
    assert await store.queues.event(told.id) == told
    assert await store.queues.event("none") is None
    assert list(await store.queues.event_deliveries(told.id)) == []
    claims = await take(store, "a", "b")
    assert {claim.event and claim.event.version for claim in claims} == {3}
    await store.queues.settle(claims[0], "done")
    await store.queues.settle(claims[1], "dead", error="broken")
    states = [(item.handler, item.status, item.error) for item in await store.queues.event_deliveries(told.id)]
    assert states == [("a", "delivered", ""), ("b", "dead", "broken")]


@check("STORE-384", "store", needs=("queues",))
async def replay_is_conditional(store: Store) -> None:
    """Of two operators that saw a delivery one makes it due again; one that changed since is left alone (P73)."""
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    told = [event(), event()]
    await emit(store, *told)
    claims = await take(store, "a", "b")
    for claim in claims:
        await store.queues.settle(claim, "dead" if claim.handler == "a" else "done", error="broken")
    seen = await items(store, "outbox", "dead")
    assert len(seen) == 2
    answers = await asyncio.gather(*(store.queues.rearm(seen) for _ in range(4)))
    assert sorted(id for answer in answers for id in answer) == [item.id for item in seen]
    again = await take(store, "a", "b")
    assert [(claim.handler, claim.attempt) for claim in again] == [("a", 1), ("a", 1)]
    assert await store.queues.rearm(seen) == []
    assert await store.queues.settle_many(again, "dead", error="broken") == []
    assert await store.queues.rearm(seen) == []  # dead again, which they have not seen
    done = [item for item in await items(store, "outbox", "delivered") if item.handler == "b"]
    assert list(await store.queues.rearm(done[:1])) == [done[0].id]
    assert [item.status for item in await store.queues.event_deliveries(done[0].id.partition(":")[0])] == [
        "dead",
        "pending",
    ]
    (last,) = await take(store, "b")
    await store.queues.settle(last, "done")
    await refused(BadInput, store.queues.rearm([evolve(done[0], queue="inbox")]))


@check("STORE-385", "store", needs=("queues",))
async def older_events_reach_a_handler_by_a_backfill(store: Store) -> None:
    """A backfill delivers what a handler missed, once, a step at a time, and to no one else."""
    started = now()
    old = [event(f"kit.{number % 2}", occurred_at=started - timedelta(hours=10 - number)) for number in range(8)]
    await store.queues.register_handlers({"first": "*"}, now=started - FOREVER)
    await emit(store, *old)
    for claim in await take(store, "first"):
        await store.queues.settle(claim, "done")
    await store.queues.register_handlers({"late": "kit.1"}, now=started)
    assert await take(store, "late") == []
    await refused(NotFound, store.queues.backfill("none", since=started, until=started))
    for expected in (3, 0):
        count, after, steps = 0, None, 0
        while True:
            made, after = await store.queues.backfill(
                "late", since=old[3].occurred_at, until=started, after=after, limit=3
            )
            count, steps = count + made, steps + 1
            if after is None:
                break
        assert count == expected
        assert steps > 2
    assert await take(store, "first") == []
    wanted = sorted(one.id for one in old[3:] if one.name == "kit.1")
    claims = await take(store, "late")
    assert [claim.event and claim.event.id for claim in claims] == wanted
    for claim in claims:
        await store.queues.settle(claim, "done")
    assert {item.status for item in await items(store, "outbox")} == {"delivered"}


@check("STORE-386", "store", needs=("queues",))
async def backfill_meets_an_event_that_is_new(store: Store) -> None:
    """An event that no handler has yet, and that is backfilled, is delivered once and not taken for unheard."""
    told = event()
    await store.queues.register_handlers({"late": "*"}, now=told.occurred_at + timedelta(hours=1))
    await emit(store, told)
    assert await store.queues.backfill("late", since=told.occurred_at, until=now() + FOREVER) == (1, None)
    claims = [*await take(store, "late"), *await take(store, "late")]
    assert [claim.event for claim in claims] == [told]
    await store.queues.settle(claims[0], "done")
    assert [item.status for item in await items(store, "outbox")] == ["delivered"]


@check("STORE-387", "store", needs=("queues",))
async def handler_that_is_gone_can_be_forgotten(store: Store) -> None:
    """A forgotten handler holds no event open; one that a process has is not forgotten."""
    await store.queues.register_handlers({"here": "*", "gone": "*"}, now=now())
    told = [event() for _ in range(5)]
    await emit(store, *told)
    for claim in await take(store, "here"):
        await store.queues.settle(claim, "done")
    (dead, *_) = held = await take(store, "gone", limit=2)
    await store.queues.settle(dead, "dead")
    await refused(Conflict, store.queues.forget_handler("gone", unseen=3600))
    assert (await status_of(store, "gone")).dead == 1
    counts: list[int] = []
    while not counts or counts[-1]:
        counts.append(await store.queues.forget_handler("gone", unseen=0, limit=2))
    assert counts == [2, 2, 1, 0]
    assert [one.name for one in (await store.queues.outbox_status()).handlers] == ["here"]
    await refused(LeaseLost, store.queues.settle(held[1], "done"))
    open = {item.status for item in await items(store, "outbox")}
    assert open == {"delivered"}
    await emit(store, event())
    assert await take(store, "gone") == []


@check("STORE-388", "store", needs=("queues",))
async def outbox_tells_how_far_each_handler_is(store: Store) -> None:
    """The status counts by handler, tells the oldest event and the lag, and who was seen last."""
    began = (await store.queues.outbox_status()).now
    await store.queues.register_handlers({"a": "*", "b": "none"}, now=now())
    start = now()
    told = [event(id=id, occurred_at=start + timedelta(seconds=number)) for number, id in enumerate(ids(5))]
    await emit(store, *told)
    status = await store.queues.outbox_status()
    assert (status.waiting, status.oldest_at) == (5, told[0].occurred_at)
    claims = await take(store, "a", limit=4)
    assert len(claims) == 4
    await store.queues.settle(claims[0], "done")
    await store.queues.settle(claims[1], "retry", delay=60)
    await store.queues.settle(claims[2], "dead")
    await asyncio.sleep(0.05)
    status = await store.queues.outbox_status()
    assert [one.name for one in status.handlers] == ["a", "b"]
    mine = await status_of(store, "a")
    assert (mine.pending + status.waiting, mine.retry, mine.running, mine.dead) == (1, 1, 1, 1)
    assert mine.oldest_at == told[1].occurred_at
    assert mine.pattern == "*"
    assert mine.seen_at is not None
    assert began <= mine.seen_at <= status.now
    await store.queues.give_back([claims[3]])
    await asyncio.sleep(0.05)
    assert 0.02 < (await status_of(store, "a")).lag < 60
    idle = await status_of(store, "b")
    assert (idle.lag, idle.oldest_at, idle.pending, idle.dead) == (0, None, 0, 0)


@check("STORE-389", "store", needs=("queues",))
async def claim_that_was_not_begun_is_given_back(store: Store) -> None:
    """A claim that is given back is due at once, under a higher fence, and its attempt does not count."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, event())
    await store.queues.accept(delivery(new_id()))
    await store.queues.enqueue(job())

    async def everything(**options: Any) -> list[Any]:
        return [*await take(store, **options), *await take(store, "h", **options), *await take_jobs(store, **options)]

    first = await everything(owner="first")
    assert await store.queues.give_back(first) == []
    second = await everything(owner="second")
    assert [(one.id, one.attempt) for one in second] == [(one.id, 1) for one in first]
    assert all(new.fence > old.fence for old, new in zip(first, second, strict=True))
    assert sorted(await store.queues.give_back(first)) == sorted(one.id for one in first)
    for claim in second:
        await store.queues.settle(claim, "done")
    assert sorted(await store.queues.give_back(second)) == sorted(one.id for one in second)
    assert await store.queues.give_back([]) == []


@check("STORE-390", "store", needs=("queues",))
async def claim_counts_leases_that_ended(store: Store) -> None:
    """A claim tells how often its lease ended since it was settled; what was given back keeps its number."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, event())
    seen = []
    for expected in (0, 1, 2):
        (claim,) = await take(store, "h", lease=0.05)
        seen.append(claim.crashes)
        assert claim.attempt == expected + 1
        await asyncio.sleep(0.1)
    (claim,) = await take(store, "h")
    await store.queues.give_back([claim])
    (claim,) = await take(store, "h")
    assert [*seen, claim.crashes] == [0, 1, 2, 3]
    await store.queues.settle(claim, "retry")
    (claim,) = await take(store, "h")
    assert claim.crashes == 0


@check("STORE-391", "store", needs=("queues",))
async def outbox_is_listed_by_handler(store: Store) -> None:
    """The outbox lists the deliveries of one handler, also those that are dead; other queues have no handler."""
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    await emit(store, *(event() for _ in range(4)))
    for number, claim in enumerate(await take(store, "a", "b")):
        await store.queues.settle(claim, "dead" if number % 4 < 2 else "done")
    assert {item.handler for item in (await store.queues.list("outbox", handler="a")).items} == {"a"}
    for status, count in (("dead", 2), ("delivered", 2), (None, 4)):
        seen: list[str] = []
        after = None
        while True:
            page = await store.queues.list("outbox", handler="b", status=status, after=after, limit=1)
            seen += [item.id for item in page.items]
            if (after := page.next) is None:
                break
        assert len(seen) == len(set(seen)) == count, status
    await refused(BadInput, store.queues.list("inbox", handler="a"))


@check("STORE-392", "store", needs=("queues",))
async def due_items_are_not_held_up_by_new_events(store: Store) -> None:
    """A claim gives what was due before new events, so that a steady stream of those starves nothing."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    early: Event = event()
    await emit(store, early)
    (claim,) = await take(store, "h")
    await store.queues.settle(claim, "retry")
    await emit(store, *(event() for _ in range(5)))
    (first,) = await take(store, "h", limit=1)
    assert first.event == early


@check("STORE-393", "store", needs=("queues",))
async def events_that_nobody_wants_hide_none_behind_them(store: Store) -> None:
    """However many new events no handler wants, a claim gives the one behind them."""
    await store.queues.register_handlers({"h": "wanted"}, now=now() - timedelta(1))
    for _ in range(7):
        await emit(store, event("unwanted"))
    await emit(store, event("wanted"))
    (claim,) = await store.queues.claim("outbox", owner="a", lease=60, limit=2, handlers=["h"])
    assert claim.event is not None
    assert claim.event.name == "wanted"
