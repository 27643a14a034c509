"""Checks for stores: deliveries in bursts, passing them on, replaying them, and ending a quarantine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from typing import Any

from attrs import evolve

from ...deliveries import Delivery
from ...delivery_specs import Burst
from ...errors import BadInput
from ...model import Claim, Event, InboxDelivery
from ...protocols import Store
from ..kit import check
from .store import established, event, new_id, now, refused
from .store_queues import delivery, items, take

_numbers = count()


def in_burst(key: str = "k", **fields: Any) -> InboxDelivery:
    """A delivery of a burst that is new."""
    return delivery(f"burst-{next(_numbers)}", burst_key=key, **fields)


async def state(store: Store, id: str) -> Delivery:
    """The delivery of that id."""
    found = await store.queues.delivery_state(id)
    assert found is not None
    return found


def event_for(claim: Claim) -> Event:
    """The event that a delivery becomes."""
    return event("webhook.issue", id=claim.id)


async def passed_on(store: Store, *given: InboxDelivery) -> Sequence[Claim]:
    """Deliveries that were accepted, claimed and passed on."""
    for one in given:
        await store.queues.accept(one)
    claims = await take(store)
    assert await store.queues.pass_on([(claim, event_for(claim)) for claim in claims]) == []
    return claims


@check("STORE-400", "store", needs=("queues",))
async def newest_of_a_debounced_burst_is_given(store: Store) -> None:
    """Of deliveries in quick succession only the newest is given, once it is quiet; the others are superseded."""
    burst = Burst(mode="debounce", window=0.3, longest=30)
    sent = [in_burst() for _ in range(3)]
    told = [await store.queues.accept(one, burst=burst) for one in sent]
    assert [one.supersedes for one in told] == [False, True, True]
    assert await take(store) == []
    await asyncio.sleep(0.35)
    (claim,) = await take(store)
    assert claim.id == sent[2].id
    assert [(item.status, item.attempts) for item in await items(store, "inbox")] == [
        ("superseded", 0),
        ("superseded", 0),
        ("processing", 1),
    ]
    again = await store.queues.accept(delivery(sent[0].delivery_id), burst=burst)
    assert again.duplicate
    assert again.id == sent[0].id


@check("STORE-401", "store", needs=("queues",))
async def steady_stream_does_not_starve(store: Store) -> None:
    """In a stream without a pause one is given after ``longest``, and always the newest."""
    burst = Burst(mode="debounce", window=0.5, longest=1.0)
    given: list[str] = []
    newest = ""
    ends = asyncio.get_running_loop().time() + 1.6
    while asyncio.get_running_loop().time() < ends:
        newest = (await store.queues.accept(in_burst(), burst=burst)).id
        for claim in await take(store):
            assert claim.id == newest
            given.append(claim.id)
            await store.queues.settle(claim, "done")
        await asyncio.sleep(0.05)
    assert 1 <= len(given) <= 2
    assert newest not in given
    await asyncio.sleep(0.6)
    (last,) = await take(store)
    assert last.id == newest


@check("STORE-402", "store", needs=("queues",))
async def coalesced_burst_is_given_at_once_and_at_the_end(store: Store) -> None:
    """The first of a coalesced burst is given at once, of what follows in its window the newest."""
    burst = Burst(mode="coalesce", window=0.5)
    first = await store.queues.accept(in_burst(), burst=burst)
    (claim,) = await take(store)
    assert claim.id == first.id
    second = await store.queues.accept(in_burst(), burst=burst)
    await store.queues.settle(claim, "done")
    third = await store.queues.accept(in_burst(), burst=burst)
    assert [second.supersedes, third.supersedes] == [False, True]
    assert await take(store) == []
    await asyncio.sleep(0.6)
    (claim,) = await take(store)
    assert claim.id == third.id
    assert (await state(store, second.id)).status == "superseded"


@check("STORE-403", "store", needs=("queues",))
async def bursts_of_other_keys_and_providers_are_apart(store: Store) -> None:
    """A burst is of one provider and key; what has none is given at once; without a rule a key means nothing."""
    burst = Burst(mode="debounce", window=0.2)
    apart = [in_burst("a"), in_burst("b"), in_burst("a", provider_id="other")]
    for one in apart:
        assert not (await store.queues.accept(one, burst=burst)).supersedes
    free = [delivery("free"), in_burst("a")]
    await store.queues.accept(free[0], burst=burst)
    await store.queues.accept(free[1])
    assert {claim.id for claim in await take(store)} == {one.id for one in free}
    await asyncio.sleep(0.25)
    assert {claim.id for claim in await take(store)} == {one.id for one in apart}


@check("STORE-404", "store", needs=("queues",))
async def of_deliveries_accepted_at_once_the_newest_is_given(store: Store) -> None:
    """Deliveries of one burst that are accepted and claimed at once: the newest is given, and none after it."""
    burst = Burst(mode="debounce", window=0.05, longest=0.1)
    given: list[str] = []
    for _ in range(5):
        sent = [in_burst() for _ in range(20)]
        await asyncio.gather(*(store.queues.accept(one, burst=burst) for one in sent))
        newest = max(one.id for one in sent)
        while newest not in given:
            for batch in await asyncio.gather(*(take(store, owner=f"w{number}", limit=3) for number in range(4))):
                for claim in batch:
                    assert not [other for other in given if other > claim.id]
                    given.append(claim.id)
                    await store.queues.settle(claim, "done")
            await asyncio.sleep(0.01)
    assert await take(store) == []
    left = {item.status for item in (await store.queues.list("inbox", limit=500)).items}
    assert left == {"superseded", "processed"}


@check("STORE-405", "store", needs=("queues",))
async def deliveries_are_passed_on_once(store: Store) -> None:
    """A batch ends with the event of each; a lost claim brings none, an event that is there is not made again."""
    kept, lost, known = (delivery(name) for name in ("kept", "lost", "known"))
    for one in (kept, lost, known):
        await store.queues.accept(one)
    claims = {claim.id: claim for claim in await take(store, lease=0.05)}
    await asyncio.sleep(0.1)
    (taken,) = await take(store, owner="next", limit=1)
    pairs = [(claim, event_for(claim)) for claim in claims.values()]
    assert await store.queues.pass_on(pairs) == [taken.id]
    (told,) = [event_for(taken)]
    assert await store.queues.pass_on([(taken, told)]) == []
    assert await store.queues.pass_on([(taken, told)]) == [taken.id]
    assert sorted(item.id for item in await items(store, "outbox")) == sorted(claims)
    assert {(await state(store, id)).status for id in claims} == {"processed"}
    assert all([(await state(store, id)).passed_on for id in claims])


@check("STORE-461", "store", needs=("queues", "connections"))
async def event_of_a_delivery_is_given_as_it_was(store: Store) -> None:
    """Every field of an event that a delivery was passed on with reaches the handler, the optional ones, too."""
    connection = await established(store)
    await store.queues.register_handlers({"h": "webhook.*"}, now=now() - timedelta(days=1))
    await store.queues.accept(delivery("full"))
    await store.queues.accept(delivery("bare"))
    full, bare = sorted(await take(store), key=lambda claim: claim.id)
    told = [
        event("webhook.full", connection.id, id=full.id, source="webhook", order_key="key", version=3),
        event("webhook.bare", None, id=bare.id, payload={}),
    ]
    assert await store.queues.pass_on([(full, told[0]), (bare, told[1])]) == []
    given = [claim.event for claim in [*await take(store, "h"), *await take(store, "h")]]
    assert sorted(given, key=lambda one: one.id if one else "") == told


@check("STORE-406", "store", needs=("queues",))
async def what_was_given_up_is_replayed_once(store: Store) -> None:
    """A replay is of what was seen: of two at once one counts, also after the handler ran again. P73."""
    queues = store.queues
    await queues.register_handlers({"a": "*", "b": "*"}, now=now())
    (one,) = await passed_on(store, delivery("d"))
    for claim in await take(store, "a", "b"):
        await queues.settle(
            claim, "dead" if claim.handler == "a" else "done", error="broken" if claim.handler == "a" else ""
        )
    seen = await state(store, one.id)
    assert seen.dead
    assert [(row.handler, row.status, row.error) for row in seen.handlers] == [
        ("a", "dead", "broken"),
        ("b", "delivered", ""),
    ]
    a, b = await queues.event_deliveries(one.id)
    assert await queues.rearm([evolve(a, fence=a.fence + 1)]) == []
    both = await asyncio.gather(*(queues.rearm([a]) for _ in range(5)))
    assert sorted(map(list, both)) == [[], [], [], [], [a.id]]
    (claim,) = await take(store, "a", "b")
    assert (claim.handler, claim.attempt) == ("a", 1)
    await queues.settle(claim, "done")
    assert await queues.rearm([a, b]) == [b.id]
    (claim,) = await take(store, "a", "b")
    assert claim.handler == "b"
    await asyncio.sleep(0.01)
    counts = await store.prune({"service_lifecycle_outbox": 0.0})
    assert counts == {"service_lifecycle_outbox": 0}
    await queues.settle(claim, "done")
    assert not (await state(store, one.id)).dead


@check("STORE-407", "store", needs=("queues",))
async def delivery_itself_is_replayed_as_it_was_seen(store: Store) -> None:
    """A dead or superseded delivery is passed on anew, one that was processed only where its event is gone."""
    queues = store.queues
    await queues.accept(delivery("dead"))
    (claim,) = await take(store)
    await queues.settle(claim, "dead", error="broken")
    seen = await state(store, claim.id)
    assert (seen.status, seen.error, seen.dead) == ("dead", "broken", True)
    assert not await queues.rearm_delivery(claim.id, fence=seen.fence + 1)
    both = await asyncio.gather(*(queues.rearm_delivery(claim.id, fence=seen.fence) for _ in range(5)))
    assert sorted(both) == [False] * 4 + [True]
    (claim,) = await take(store)
    assert claim.attempt == 1
    assert await queues.pass_on([(claim, event_for(claim))]) == []
    seen = await state(store, claim.id)
    assert not await queues.rearm_delivery(claim.id, fence=seen.fence)
    await take(store, "nobody")
    await asyncio.sleep(0.01)
    await store.prune({"service_lifecycle_outbox": 0.0})
    assert not (await state(store, claim.id)).passed_on
    assert await queues.rearm_delivery(claim.id, fence=seen.fence)
    (claim,) = await take(store)
    await queues.settle(claim, "done")

    burst = Burst(mode="debounce", window=0.05)
    older, newer = in_burst(), in_burst()
    for one in (older, newer):
        await queues.accept(one, burst=burst)
    await asyncio.sleep(0.1)
    assert [claim.id for claim in await take(store)] == [newer.id]
    assert await queues.rearm_delivery(older.id, fence=(await state(store, older.id)).fence)
    assert [claim.id for claim in await take(store)] == [older.id]
    assert not await queues.rearm_delivery("nobody", fence=0)


@check("STORE-408", "store", needs=("queues",))
async def quarantine_ends_once(store: Store) -> None:
    """A quarantined delivery is released or dropped by whoever comes first, and dedupes as before."""
    queues = store.queues
    await queues.accept(delivery("d", b"first"))
    for way in ("released", "dropped"):
        other = await queues.accept(delivery("d", way.encode()))
        assert other.quarantined
        ended = await asyncio.gather(*(queues.end_quarantine(other.id, release=way == "released") for _ in range(4)))
        assert sorted(ended) == [False] * 3 + [True]
        again = await queues.accept(delivery("d", way.encode()))
        assert (again.id, again.duplicate, again.quarantined) == (other.id, True, False)
        assert (await state(store, other.id)).status == ("pending" if way == "released" else "dropped")
    assert len(await take(store)) == 2
    assert not await queues.end_quarantine("nobody", release=True)


@check("STORE-409", "store", needs=("queues",))
async def deliveries_are_listed_with_their_handlers(store: Store) -> None:
    """Deliveries come in pages, chosen by provider, connection, status, event, time and what was given up."""
    queues = store.queues
    await queues.register_handlers({"a": "*"}, now=now())
    begins = now()
    first, second = delivery("1", event="opened", channel="c", resource="r"), delivery("2", event="closed")
    await passed_on(store, first, second)
    for claim in await take(store, "a"):
        await queues.settle(claim, "dead" if claim.id.startswith(first.id) else "done")
    later = begins + timedelta(hours=1)
    third = delivery("3", provider_id="other", connection_id=new_id(), received_at=later)
    await queues.accept(third)

    async def ids(**filters: object) -> list[str]:
        return [one.id for one in (await queues.deliveries(**filters)).items]  # type: ignore[arg-type]

    every = [one.id for one in (first, second, third)]
    assert await ids() == every
    assert await ids(provider_id="other") == [third.id]
    assert await ids(connection_id=third.connection_id) == [third.id]
    assert await ids(status="processed") == every[:2]
    assert await ids(event="closed") == [second.id]
    assert await ids(since=later) == [third.id]
    assert await ids(until=later) == every[:2]
    assert await ids(dead=True) == [first.id]
    assert await ids(dead=True, event="closed") == []
    page = await queues.deliveries(limit=2)
    assert [one.id for one in page.items] == every[:2]
    assert [one.id for one in (await queues.deliveries(after=page.next, limit=2)).items] == every[2:]
    shown = page.items[0]
    assert (shown.channel, shown.resource, shown.delivery_id, shown.scope) == ("c", "r", "1", first.scope)
    assert [(row.handler, row.status, row.attempts) for row in shown.handlers] == [("a", "dead", 1)]
    await refused(BadInput, queues.deliveries(limit=0))


@check("STORE-410", "store", needs=("queues",))
async def deliveries_that_arrive_at_once_are_kept_as_one_after_another(store: Store) -> None:
    """Of deliveries that are accepted at once, some known, some twice, each is read back and answered as if alone."""
    queues = store.queues
    earlier = delivery("earlier")
    await queues.accept(earlier)
    every = [delivery(f"d{number}", f"body {number}".encode() * number) for number in range(9)]
    every[3] = evolve(every[3], scope=None, order_key="kit:-:channel:c", channel="c", resource="r", burst_key="b")
    every[4] = evolve(every[4], event="é \"'\\:é", resource="ключ", digest=b"short")
    large = delivery("large", b"x" * 100_000)
    sent = [*every, large, delivery("d1", b"body 1"), delivery("d2", b"forged"), delivery("earlier")]
    sent += [delivery("d2", provider_id="kit2"), delivery("earlier", b"forged")]
    answers = await asyncio.gather(*(queues.accept(one) for one in sent))
    assert [(one.duplicate, one.quarantined) for one in answers] == [
        *[(False, False)] * 10,
        (True, False),
        (False, True),
        (True, False),
        (False, False),
        (False, True),
    ]
    told = [one.id for one in answers]
    assert (told[10], told[12]) == (every[1].id, earlier.id)
    assert [told[place] for place in (*range(10), 11, 13, 14)] == [sent[place].id for place in (*range(10), 11, 13, 14)]
    for one in (*every, large, sent[11], sent[13]):
        assert await queues.delivery(one.id) == evolve(one, burst_key=None)
    assert {claim.id for claim in await take(store)} == {one.id for one in (earlier, *every, large, sent[13])}
    assert await queues.delivery(sent[10].id) is None
