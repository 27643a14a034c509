"""Checks for stores: the inbox, the outbox and the deliveries to handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from datetime import timedelta
from hashlib import sha256
from typing import Any

from attrs import evolve

from ...errors import BadInput, LeaseLost
from ...model import Claim, Event, InboxDelivery, QueueItem, QueueName, Sealed
from ...protocols import Store
from ..kit import check
from .store import KEY, SCOPE, established, event, new_id, now, refused


def delivery(delivery_id: str = "d1", body: bytes = b"body", **fields: Any) -> InboxDelivery:
    """A verified delivery that is new."""
    made = InboxDelivery(
        id=new_id(),
        provider_id="kit",
        connection_id=None,
        scope=SCOPE,
        delivery_id=delivery_id,
        event="issue.opened",
        digest=sha256(body).digest(),
        sealed=Sealed(b"sealed " + body, KEY),
        received_at=now(),
    )
    return evolve(made, **fields)


async def take(store: Store, *handlers: str, owner: str = "w", lease: float = 30, limit: int = 100) -> list[Claim]:
    """Claim from the outbox for these handlers, else from the inbox."""
    queue: QueueName = "outbox" if handlers else "inbox"
    return await store.queues.claim(queue, owner=owner, lease=lease, limit=limit, handlers=handlers)


async def emit(store: Store, *events: Event) -> None:
    """Commit events, as a webhook handler does."""
    await store.queues.accept(delivery(new_id()))
    (claim,) = await take(store)
    await store.queues.settle(claim, "done", events=events)


async def items(store: Store, queue: QueueName, status: str | None = None) -> list[QueueItem]:
    """What the queue lists."""
    return list((await store.queues.list(queue, status=status)).items)


@check("STORE-050", "store", needs=("connections", "queues"))
async def delivery_is_accepted_once(store: Store) -> None:
    """A delivery is read back unchanged; the same id with the same body is a duplicate; channels are apart."""
    first = delivery()
    accepted = await store.queues.accept(first)
    assert (accepted.id, accepted.duplicate, accepted.quarantined) == (first.id, False, False)
    assert await store.queues.delivery(first.id) == first
    assert await store.queues.delivery("none") is None
    again = await store.queues.accept(delivery())
    assert (again.id, again.duplicate, again.quarantined) == (first.id, True, False)
    connected = await established(store)
    other = delivery(connection_id=connected.id, scope=None)
    assert not (await store.queues.accept(other)).duplicate
    assert await store.queues.delivery(other.id) == other
    assert not (await store.queues.accept(delivery(provider_id="kit2"))).duplicate
    concurrent = await asyncio.gather(*(store.queues.accept(delivery("d2")) for _ in range(8)))
    assert len({answer.id for answer in concurrent}) == 1
    assert sum(answer.duplicate for answer in concurrent) == 7


@check("STORE-051", "store", needs=("queues",))
async def same_id_with_another_body_is_quarantined(store: Store) -> None:
    """The same delivery id with another body is kept, visible and never claimed, and repeating it adds nothing."""
    await store.queues.accept(delivery())
    forged = delivery(body=b"other")
    answer = await store.queues.accept(forged)
    assert (answer.id, answer.duplicate, answer.quarantined) == (forged.id, False, True)
    again = await store.queues.accept(delivery(body=b"other"))
    assert (again.id, again.duplicate, again.quarantined) == (forged.id, True, True)
    assert [item.id for item in await items(store, "inbox", "quarantined")] == [forged.id]
    assert forged.id not in [claim.id for claim in await take(store)]
    assert not await store.queues.requeue("inbox", forged.id)


@check("STORE-052", "store", needs=("queues",))
async def item_is_claimed_by_one(store: Store) -> None:
    """Under 20 concurrent claimers every item has exactly one holder, and the claim carries the delivery."""
    sent = [delivery(f"d{number}") for number in range(30)]
    for one in sent:
        await store.queues.accept(one)
    claims = await asyncio.gather(*(take(store, owner=f"w{number}", limit=3) for number in range(20)))
    taken = [claim for batch in claims for claim in batch]
    assert sorted(claim.id for claim in taken) == sorted(one.id for one in sent)
    assert {claim.id: claim.delivery for claim in taken} == {one.id: one for one in sent}
    assert max(map(len, claims)) <= 3
    assert {(claim.attempt, claim.queue) for claim in taken} == {(1, "inbox")}
    assert await take(store) == []
    await refused(BadInput, take(store, limit=0))


@check("STORE-053", "store", needs=("queues",))
async def ended_lease_is_taken_over_under_a_higher_fence(store: Store) -> None:
    """After its lease an item goes to another holder; the old one can neither settle nor extend it."""
    await store.queues.accept(delivery())
    (late,) = await take(store, owner="late", lease=0.05)
    await asyncio.sleep(0.1)
    (successor,) = await take(store, owner="next")
    assert (successor.id, successor.attempt) == (late.id, 2)
    assert successor.fence > late.fence
    await refused(LeaseLost, store.queues.settle(late, "done", events=[event()]))
    await refused(LeaseLost, store.queues.settle(evolve(successor, owner="late"), "dead"))
    assert await store.queues.heartbeat([late], lease=30) == [late.id]
    assert await items(store, "outbox") == []
    await store.queues.settle(successor, "done")
    await refused(LeaseLost, store.queues.settle(successor, "done"))
    assert [item.status for item in await items(store, "inbox")] == ["processed"]


@check("STORE-054", "store", needs=("queues",))
async def heartbeat_extends_the_lease(store: Store) -> None:
    """A lease that is extended is not taken over, in either queue."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, event())
    await store.queues.accept(delivery())
    held = [*await take(store, lease=0.2), *await take(store, "h", lease=0.2)]
    assert len(held) == 2
    assert await store.queues.heartbeat(held, lease=30) == []
    await asyncio.sleep(0.3)
    assert [*await take(store, owner="x"), *await take(store, "h", owner="x")] == []


@check("STORE-055", "store", needs=("queues",))
async def retry_waits_and_dead_needs_a_requeue(store: Store) -> None:
    """A retry is due after its delay with the next attempt; a dead item only after one requeue."""
    await store.queues.accept(delivery())
    (first,) = await take(store)
    await store.queues.settle(first, "retry", error="try later", delay=0.1)
    assert await take(store) == []
    assert [(item.status, item.error) for item in await items(store, "inbox")] == [("retry_ready", "try later")]
    await asyncio.sleep(0.15)
    (second,) = await take(store)
    assert second.attempt == 2
    await store.queues.settle(second, "dead", error="gave up")
    assert (await store.queues.accept(delivery())).duplicate
    assert await take(store) == []
    assert [(item.status, item.error) for item in await items(store, "inbox", "dead")] == [("dead", "gave up")]
    answers = await asyncio.gather(*(store.queues.requeue("inbox", first.id) for _ in range(3)))
    assert sorted(answers) == [False, False, True]
    (third,) = await take(store)
    assert third.fence > second.fence
    assert third.attempt == 1


@check("STORE-056", "store", needs=("queues",))
async def work_and_events_commit_with_the_settlement(store: Store) -> None:
    """Work that raises undoes settlement and events; otherwise all three are there."""
    ran = []

    def work() -> Generator[Any, Any, None]:
        ran.append(True)
        if len(ran) == 1:
            raise ArithmeticError("kit")
        yield from ()

    await store.queues.accept(delivery())
    (claim,) = await take(store)
    told = event()
    await refused(ArithmeticError, store.queues.settle(claim, "done", events=[told], work=work))
    assert await items(store, "outbox") == []
    assert [item.status for item in await items(store, "inbox")] == ["processing"]
    await store.queues.settle(claim, "done", events=[told], work=work)
    assert [item.id for item in await items(store, "outbox")] == [told.id]
    assert len(ran) == 2
    await store.queues.accept(delivery("d2"))
    (other,) = await take(store)
    await refused(BadInput, store.queues.settle(other, "retry", events=[event()]))


@check("STORE-057", "store", needs=("queues",))
async def fence_tells_claims_of_one_owner_apart(store: Store) -> None:
    """A claim that its own owner has claimed again is lost as well: the name alone holds nothing."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, event())
    await store.queues.accept(delivery())
    late = [*await take(store, lease=0.05), *await take(store, "h", lease=0.05)]
    await asyncio.sleep(0.1)
    newer = [*await take(store), *await take(store, "h")]
    assert [claim.id for claim in newer] == [claim.id for claim in late]
    assert await store.queues.heartbeat(late, lease=30) == [claim.id for claim in late]
    for old, new in zip(late, newer, strict=True):
        await refused(LeaseLost, store.queues.settle(old, "done"))
        await store.queues.settle(new, "done")


@check("STORE-058", "store", needs=("queues",))
async def many_claims_end_in_one_unit(store: Store) -> None:
    """Claims of both queues end together; those that are lost are named, and nothing of them is changed."""
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    told = [event(), event()]
    await emit(store, *told)
    for number in range(4):
        await store.queues.accept(delivery(f"d{number}"))
    late = await take(store, lease=0.05, limit=1)
    await asyncio.sleep(0.1)
    inbox = sorted(await take(store), key=lambda claim: claim.id != late[0].id)
    assert len(inbox) == 4
    assert await store.queues.heartbeat([*late, inbox[0]], lease=30) == [late[0].id]
    outbox = await take(store, "a", "b")
    assert len(outbox) == 4
    assert await store.queues.settle_many([*late, *inbox[1:], *outbox[:3]], "done") == [late[0].id]
    assert [item.status for item in await items(store, "inbox", "processing")] == ["processing"]
    assert len(await items(store, "outbox", "delivered")) == 3
    assert await store.queues.settle_many(inbox[1:2], "done") == [inbox[1].id]
    assert await store.queues.settle_many([inbox[0], outbox[3]], "dead", error="broken") == []
    assert [item.error for item in await items(store, "inbox", "dead")] == ["broken"]
    assert [item.error for item in await items(store, "outbox", "dead")] == ["broken"]
    assert await store.queues.settle_many([], "done") == []
    await store.queues.requeue("inbox", inbox[0].id)
    (again,) = await take(store)
    assert await store.queues.settle_many([inbox[0], again], "done") == [inbox[0].id]


@check("STORE-060", "store", needs=("queues",))
async def each_handler_has_its_own_delivery(store: Store) -> None:
    """An event goes to every handler whose pattern matches, each with its own state, and is read back unchanged."""
    await store.queues.register_handlers({"all": "*", "some": "issue.*", "none": "pull.*"}, now=now())
    told = event("issue.opened")
    await emit(store, told)
    claims = await take(store, "all", "some", "none")
    assert [(claim.handler, claim.event, claim.attempt) for claim in claims] == [("all", told, 1), ("some", told, 1)]
    assert len({claim.id for claim in claims}) == 2
    await store.queues.settle(claims[0], "done")
    await store.queues.settle(claims[1], "dead", error="broken")
    states = {item.handler: (item.status, item.error) for item in await items(store, "outbox")}
    assert states == {"all": ("delivered", ""), "some": ("dead", "broken")}
    assert await take(store, "all", "some") == []
    assert not await store.queues.requeue("outbox", told.id, handler="all")
    assert await store.queues.requeue("outbox", told.id, handler="some")
    (again,) = await take(store, "all", "some")
    assert again.handler == "some"
    await store.queues.settle(again, "dead")
    (item,) = await items(store, "outbox", "dead")
    assert await store.queues.requeue("outbox", item.id, handler=item.handler)


@check("STORE-061", "store", needs=("queues",))
async def later_handler_does_not_get_older_events(store: Store) -> None:
    """A handler gets no event from before it was first registered; registering again does not change that."""
    told = event()
    await emit(store, told)
    await store.queues.register_handlers({"h": "*"}, now=told.occurred_at + timedelta(seconds=1))
    assert await take(store, "h") == []
    newer = event(occurred_at=told.occurred_at + timedelta(seconds=2))
    await store.queues.register_handlers({"h": "kit.*"}, now=told.occurred_at + timedelta(seconds=3))
    await emit(store, newer)
    assert [claim.event for claim in await take(store, "h")] == [newer]


@check("STORE-062", "store", needs=("queues",))
async def only_named_handlers_are_claimed(store: Store) -> None:
    """A worker gets deliveries of the handlers that it names; the others wait for theirs."""
    await store.queues.register_handlers({"here": "*", "there": "*"}, now=now())
    await emit(store, event())
    assert [claim.handler for claim in await take(store, "here", "unheard-of")] == ["here"]
    assert [claim.handler for claim in await take(store, "there")] == ["there"]


@check("STORE-063", "store", needs=("queues",))
async def lower_id_that_commits_later_is_delivered(store: Store) -> None:
    """An event whose id is lower than one that was delivered already is not skipped."""
    await store.queues.register_handlers({"h": "*"}, now=now())
    early, late = event(), event()
    await emit(store, max(early, late, key=_id))
    (first,) = await take(store, "h")
    await store.queues.settle(first, "done")
    await emit(store, min(early, late, key=_id))
    (second,) = await take(store, "h")
    assert [first.event, second.event] == [max(early, late, key=_id), min(early, late, key=_id)]


def _id(told: Event) -> str:
    return told.id


@check("STORE-064", "store", needs=("queues",))
async def event_without_handler_counts_as_delivered(store: Store) -> None:
    """An event that no handler wants is delivered at once and stays visible."""
    told = event()
    await emit(store, told)
    assert [(item.id, item.status) for item in await items(store, "outbox")] == [(told.id, "pending")]
    assert await take(store, "h") == []
    assert [(item.id, item.status) for item in await items(store, "outbox")] == [(told.id, "delivered")]


@check("STORE-065", "store", needs=("queues",))
async def concurrent_workers_share_the_outbox(store: Store) -> None:
    """Under concurrent workers every event reaches each handler under exactly one live claim."""
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    told = [event() for _ in range(10)]
    await emit(store, *told)
    batches = await asyncio.gather(*(take(store, "a", "b", owner=f"w{number}", limit=4) for number in range(10)))
    while more := await take(store, "a", "b", owner="late", limit=4):
        batches.append(more)  # a worker may skip what another one is handing out at that moment
    assert max(map(len, batches)) <= 4
    pairs = sorted((claim.event.id, claim.handler) for batch in batches for claim in batch if claim.event)
    assert pairs == sorted((one.id, handler) for one in told for handler in ("a", "b"))


@check("STORE-066", "store", needs=("queues",))
async def queues_are_listed_by_key(store: Store) -> None:
    """Lists of both queues come in pages, and no item is lost or doubled."""
    await store.queues.register_handlers({"a": "*", "b": "issue.*"}, now=now())
    for number in range(3):
        await store.queues.accept(delivery(f"d{number}"))
    (claim, *_) = await take(store)
    await store.queues.settle(claim, "done", events=[event("issue.opened"), event("other"), event("issue.closed")])
    await take(store, "a")
    expectations: tuple[tuple[QueueName, int], ...] = (("inbox", 3), ("outbox", 5))
    for queue, expected in expectations:
        whole = [item.id for item in await items(store, queue)]
        assert len(whole) == len(set(whole)) == expected
        seen: list[str] = []
        after = None
        while True:
            page = await store.queues.list(queue, after=after, limit=2)
            seen += [item.id for item in page.items]
            if (after := page.next) is None:
                break
        assert seen == whole
    await refused(BadInput, store.queues.list("inbox", limit=0))
