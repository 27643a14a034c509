"""Checks for stores: leases, and what is begun once and finished once."""

from __future__ import annotations

import asyncio
from collections import Counter

from attrs import evolve

from ...errors import IdempotencyMismatch, LeaseLost
from ...model import Sealed
from ...protocols import Store
from ...resources import Dispatch
from ..kit import check
from .store import KEY, new_id, refused


@check("STORE-101", "store", needs=("leases",))
async def lease_is_held_by_one(store: Store) -> None:
    """Of concurrent callers one gets a lease, and nobody else, nor itself again, until it is released."""
    calls = [store.leases.acquire("door", owner=f"o{number}", seconds=30) for number in range(20)]
    (lease,) = [lease for lease in await asyncio.gather(*calls) if lease is not None]
    assert lease.resource == "door"
    assert await store.leases.acquire("door", owner=lease.owner, seconds=30) is None
    assert await store.leases.acquire("window", owner="other", seconds=30) is not None
    assert await store.leases.release(lease)
    assert not await store.leases.release(lease)
    successor = await store.leases.acquire("door", owner="other", seconds=30)
    assert successor is not None
    assert successor.fence > lease.fence


@check("STORE-102", "store", needs=("leases",))
async def ended_lease_is_its_holders_until_it_is_taken(store: Store) -> None:
    """A lease whose time ended can be renewed while nobody took it; after that its late holder can do nothing."""
    lease = await store.leases.acquire("door", owner="a", seconds=0.05)
    assert lease is not None
    await asyncio.sleep(0.1)
    await store.leases.renew(lease, seconds=30)
    assert await store.leases.acquire("door", owner="b", seconds=30) is None
    await store.leases.renew(lease, seconds=0.05)
    await asyncio.sleep(0.1)
    calls = [store.leases.acquire("door", owner=f"o{number}", seconds=30) for number in range(10)]
    (successor,) = [lease for lease in await asyncio.gather(*calls) if lease is not None]
    assert successor.fence > lease.fence
    for late in (lease, evolve(successor, owner="a"), evolve(lease, owner=successor.owner)):
        await refused(LeaseLost, store.leases.renew(late, seconds=30))
        assert not await store.leases.release(late)
    await store.leases.renew(successor, seconds=30)
    await refused(LeaseLost, store.leases.renew(evolve(lease, resource="none"), seconds=30))


RESULT = Sealed(b"sealed \x00 result", KEY)


@check("STORE-110", "store", needs=("once",))
async def command_is_begun_and_finished_once(store: Store) -> None:
    """Of concurrent beginnings one is new; after its finish all others get its result, unchanged."""
    once = store.once
    calls = [once.begin("command", "k", digest=b"d", owner=f"o{number}", seconds=30) for number in range(20)]
    answers = await asyncio.gather(*calls)
    assert Counter(answer.state for answer in answers) == {"new": 1, "running": 19}
    assert all(0 < answer.retry_in <= 30 for answer in answers if answer.state == "running")
    (holder,) = [f"o{number}" for number, answer in enumerate(answers) if answer.state == "new"]
    fence = max(answer.fence for answer in answers)
    await once.finish("command", "k", owner=holder, fence=fence, ok=True, result=RESULT)
    after = await once.begin("command", "k", digest=b"d", owner="late", seconds=30)
    assert (after.state, after.result) == ("done", RESULT)
    other = await once.begin("operation", "k", digest=b"other", owner="late", seconds=30)
    assert other.state == "new"
    await once.finish("operation", "k", owner="late", fence=other.fence, ok=True)
    done = await once.begin("operation", "k", digest=b"other", owner="late", seconds=30)
    assert (done.state, done.result) == ("done", None)


@check("STORE-111", "store", needs=("once",))
async def key_stands_for_one_request(store: Store) -> None:
    """The same key with another digest raises IdempotencyMismatch, whether it runs, failed or is done."""
    once = store.once
    for ok in (False, True):
        begun = await once.begin("command", "k", digest=b"d", owner="a", seconds=30)
        await refused(IdempotencyMismatch, once.begin("command", "k", digest=b"e", owner="b", seconds=30))
        await once.finish("command", "k", owner="a", fence=begun.fence, ok=ok)
        await refused(IdempotencyMismatch, once.begin("command", "k", digest=b"e", owner="b", seconds=30))
    short = await once.begin("command", "short", digest=b"d", owner="a", seconds=0.05)
    await asyncio.sleep(0.1)
    await refused(IdempotencyMismatch, once.begin("command", "short", digest=b"e", owner="b", seconds=30))
    await once.finish("command", "short", owner="a", fence=short.fence, ok=True)


@check("STORE-112", "store", needs=("once",))
async def failed_command_begins_again_at_once(store: Store) -> None:
    """After a failure the key is new again under a higher fence; nothing is finished twice."""
    once = store.once
    first = await once.begin("operation", "k", digest=b"d", owner="a", seconds=30)
    await once.finish("operation", "k", owner="a", fence=first.fence, ok=False, result=RESULT)
    await refused(LeaseLost, once.finish("operation", "k", owner="a", fence=first.fence, ok=True))
    second = await once.begin("operation", "k", digest=b"d", owner="a", seconds=30)
    assert (second.state, second.result) == ("new", None)
    assert second.fence > first.fence
    await refused(LeaseLost, once.finish("operation", "k", owner="a", fence=first.fence, ok=True))
    await once.finish("operation", "k", owner="a", fence=second.fence, ok=True, result=RESULT)
    await refused(LeaseLost, once.finish("operation", "k", owner="a", fence=second.fence, ok=False))
    await refused(LeaseLost, once.finish("operation", "none", owner="a", fence=1, ok=True))
    assert (await once.begin("operation", "k", digest=b"d", owner="a", seconds=30)).result == RESULT


@check("STORE-113", "store", needs=("once",))
async def command_of_a_dead_owner_is_taken_over(store: Store) -> None:
    """What was begun and not finished in time is new for one other, and its late owner cannot finish it."""
    once = store.once
    late = await once.begin("command", "k", digest=b"d", owner="late", seconds=0.05)
    await asyncio.sleep(0.1)
    calls = [once.begin("command", "k", digest=b"d", owner=f"o{number}", seconds=30) for number in range(10)]
    answers = await asyncio.gather(*calls)
    (holder,) = [number for number, answer in enumerate(answers) if answer.state == "new"]
    assert answers[holder].fence > late.fence
    await refused(LeaseLost, once.finish("command", "k", owner="late", fence=late.fence, ok=True))
    await refused(LeaseLost, once.finish("command", "k", owner="late", fence=answers[holder].fence, ok=True))
    await once.finish("command", "k", owner=f"o{holder}", fence=answers[holder].fence, ok=True)


@check("STORE-117", "store", needs=("once",))
async def attempt_without_an_end_is_told_from_a_failed_one(store: Store) -> None:
    """What was begun again tells since when an attempt is unsettled, until one fails; at first, none is."""
    once = store.once

    async def begin(seconds: float) -> tuple[int, float | None]:
        begun = await once.begin("operation", "k", digest=b"d", owner="a", seconds=seconds)
        assert begun.state == "new"
        return begun.fence, begun.unsettled

    fence, unsettled = await begin(30)
    assert unsettled is None
    await once.finish("operation", "k", owner="a", fence=fence, ok=False)
    assert (await begin(0.05))[1] is None
    await asyncio.sleep(0.1)
    _, first = await begin(0.05)
    assert first is not None
    assert 0.05 <= first < 30
    await asyncio.sleep(0.1)
    fence, second = await begin(30)
    assert second is not None
    assert second >= first + 0.05
    await once.finish("operation", "k", owner="a", fence=fence, ok=False)
    fence, unsettled = await begin(30)
    assert unsettled is None
    await once.finish("operation", "k", owner="a", fence=fence, ok=True, result=RESULT)
    done = await once.begin("operation", "k", digest=b"d", owner="a", seconds=30)
    assert (done.state, done.unsettled, done.result) == ("done", None, RESULT)


@check("STORE-118", "store", needs=("once",))
async def command_is_held_for_longer_or_left(store: Store) -> None:
    """Its holder can hold it longer, or leave it to be begun again at once as one without an end; nobody else can."""
    once = store.once
    held = await once.begin("command", "k", digest=b"d", owner="a", seconds=0.05)
    await once.extend("command", "k", owner="a", fence=held.fence, seconds=30)
    await asyncio.sleep(0.1)
    running = await once.begin("command", "k", digest=b"d", owner="b", seconds=30)
    assert (running.state, running.retry_in > 1) == ("running", True)
    for owner, fence in (("b", held.fence), ("a", held.fence + 1)):
        await refused(LeaseLost, once.extend("command", "k", owner=owner, fence=fence, seconds=0))
    await refused(LeaseLost, once.extend("command", "none", owner="a", fence=1, seconds=30))
    assert (await once.begin("command", "k", digest=b"d", owner="b", seconds=30)).state == "running"
    await once.extend("command", "k", owner="a", fence=held.fence, seconds=0)
    taken = await once.begin("command", "k", digest=b"d", owner="b", seconds=30)
    assert (taken.state, taken.fence) == ("new", held.fence + 1)
    assert taken.unsettled is not None
    await refused(LeaseLost, once.extend("command", "k", owner="a", fence=held.fence, seconds=30))
    await once.finish("command", "k", owner="b", fence=taken.fence, ok=True)
    await refused(LeaseLost, once.extend("command", "k", owner="b", fence=taken.fence, seconds=30))


def dispatch(key: str = "k") -> Dispatch:
    """A notification to one recipient."""
    return Dispatch(
        id=new_id(),
        key=key,
        event_id="event-1",
        projector="mail",
        definition_code="welcome",
        recipient_key="user:u1",
        metadata={"language": "de"},
    )


@check("STORE-115", "store", needs=("once",))
async def only_a_sent_notification_counts(store: Store) -> None:
    """Of concurrent dispatchers one sends; a failure leaves the notification to be sent, and sending ends it."""
    once = store.once
    calls = [once.begin_dispatch(dispatch(), owner=f"o{number}", seconds=30) for number in range(20)]
    answers = await asyncio.gather(*calls)
    (holder,) = [number for number, answer in enumerate(answers) if answer.state == "new"]
    assert Counter(answer.state for answer in answers) == {"new": 1, "running": 19}
    first = answers[holder]
    await once.finish_dispatch("k", owner=f"o{holder}", fence=first.fence, status="failed", error="no route")
    second = await once.begin_dispatch(dispatch(), owner="b", seconds=30)
    assert (second.state, second.fence) == ("new", first.fence + 1)
    for owner, fence in (("b", first.fence), ("a", second.fence)):
        await refused(LeaseLost, once.finish_dispatch("k", owner=owner, fence=fence, status="sent"))
    await once.finish_dispatch("k", owner="b", fence=second.fence, status="sent")
    assert (await once.begin_dispatch(dispatch(), owner="c", seconds=30)).state == "done"
    await refused(LeaseLost, once.finish_dispatch("k", owner="b", fence=second.fence, status="failed"))
    assert (await once.begin_dispatch(dispatch("other"), owner="c", seconds=30)).state == "new"


@check("STORE-116", "store", needs=("once",))
async def notification_of_a_dead_owner_is_taken_over(store: Store) -> None:
    """A dispatch that was not finished in time is begun again by one other, under a higher fence."""
    once = store.once
    late = await once.begin_dispatch(dispatch(), owner="late", seconds=0.05)
    assert (await once.begin_dispatch(dispatch(), owner="early", seconds=30)).state == "running"
    await asyncio.sleep(0.1)
    calls = [once.begin_dispatch(dispatch(), owner=f"o{number}", seconds=30) for number in range(10)]
    answers = await asyncio.gather(*calls)
    (holder,) = [number for number, answer in enumerate(answers) if answer.state == "new"]
    assert answers[holder].fence > late.fence
    await refused(LeaseLost, once.finish_dispatch("k", owner="late", fence=late.fence, status="sent"))
    await once.finish_dispatch("k", owner=f"o{holder}", fence=answers[holder].fence, status="sent")
