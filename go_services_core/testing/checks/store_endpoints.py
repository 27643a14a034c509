"""Checks for stores: endpoints of outgoing webhooks, and what their messages need of the queues."""

from __future__ import annotations

import asyncio
from typing import Any

from attrs import evolve

from ...endpoints import ENDPOINT_MOVES, Endpoint
from ...errors import BadInput, ConnectionNotFound, InvalidTransition, LeaseLost, NotFound, VersionConflict
from ...model import Scope, Sealed
from ...protocols import Store
from ...resources import Dispatch
from ..kit import check
from .store import KEY, SCOPE, event, new_id, now, outbox_ids, refused
from .store_jobs import job, take_jobs
from .store_queues import delivery, items, take


def endpoint(**fields: Any) -> Endpoint:
    """An endpoint that is new."""
    moment = now()
    made = Endpoint(
        id=new_id(),
        url="https://customer.example/hooks?for=ü",
        scope=SCOPE,
        events=("connection.*", "grant.drift"),
        description="kit",
        ordered=True,
        secrets=Sealed(b"signing \x00\xff", KEY),
        created_at=moment,
        updated_at=moment,
    )
    return evolve(made, **fields)


async def added(store: Store, **fields: Any) -> Endpoint:
    """An endpoint that is in the store."""
    return await store.endpoints.save(endpoint(**fields), expected_version=None)


@check("STORE-340", "store", needs=("endpoints", "queues"))
async def endpoint_is_kept_with_its_event(store: Store) -> None:
    """A new endpoint is version 1, active and read back unchanged, in one commit with its event."""
    facet = store.endpoints
    wanted, told = endpoint(version=7), event("endpoint.created")
    saved = await facet.save(wanted, expected_version=None, event=told)
    assert saved == evolve(wanted, version=1)
    assert await facet.get(wanted.id) == saved
    assert await facet.get("none") is None
    assert told.id in await outbox_ids(store)
    bare = endpoint(scope=None, events=("*",), ordered=False, description="")
    assert await facet.save(bare, expected_version=None) == bare
    twice = await refused(VersionConflict, facet.save(evolve(bare, url="https://other.example"), expected_version=None))
    assert twice.metadata == {"endpoint_id": bare.id, "version": 1}
    await refused(InvalidTransition, facet.save(endpoint(status="paused"), expected_version=None))
    assert await facet.get(bare.id) == bare


@check("STORE-341", "store", needs=("endpoints", "queues"))
async def endpoint_is_replaced_in_its_version(store: Store) -> None:
    """Of concurrent writers of one version one wins; id, scope and time of making stay, and the moves are kept to."""
    facet = store.endpoints
    saved = await added(store)
    events = await outbox_ids(store)
    wanted = [evolve(saved, description=str(number)) for number in range(8)]
    calls = [facet.save(one, expected_version=1, event=event()) for one in wanted]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    (winner,) = [answer for answer in answers if isinstance(answer, Endpoint)]
    losers = [answer for answer in answers if isinstance(answer, VersionConflict)]
    assert [error.metadata for error in losers] == [{"endpoint_id": saved.id, "version": 2}] * 7
    assert (winner.version, await facet.get(saved.id)) == (2, winner)
    assert len(await outbox_ids(store)) == len(events) + 1
    other = evolve(
        winner,
        scope=Scope("org", "other"),
        url="https://customer.example/new",
        events=("*",),
        description="",
        ordered=False,
        status="disabled",
        status_reason="gone",
        secrets=Sealed(b"newer", KEY),
        created_at=now(),
        updated_at=now(),
    )
    kept = await facet.save(other, expected_version=2)
    assert kept == evolve(other, scope=saved.scope, created_at=saved.created_at, version=3)
    statuses: Any = tuple(ENDPOINT_MOVES)
    for status in statuses:
        for next_status in set(statuses) - ENDPOINT_MOVES[status] - {status}:
            one = await added(store)
            if status != "active":
                one = await facet.save(evolve(one, status=status), expected_version=1)
            moved = evolve(one, status=next_status)
            await refused(InvalidTransition, facet.save(moved, expected_version=one.version, event=event()))
            assert await facet.get(one.id) == one
    await refused(NotFound, facet.save(endpoint(), expected_version=1))


@check("STORE-342", "store", needs=("endpoints",))
async def endpoints_are_listed_by_page(store: Store) -> None:
    """By own scope, by whose events they get, and by status; a disabled one gets none."""
    facet = store.endpoints
    theirs = Scope("org", "theirs")
    own = [await added(store) for _ in range(3)]
    of_all = await added(store, scope=None)
    other = await added(store, scope=theirs)
    paused = await facet.save(evolve(own[1], status="paused"), expected_version=1)
    disabled = await facet.save(evolve(own[2], status="disabled"), expected_version=1)
    own = [own[0], paused, disabled]

    async def ids(**choice: Any) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = await facet.list(after=after, limit=2, **choice)
            assert len(page.items) <= 2
            found += [one.id for one in page.items]
            if (after := page.next) is None:
                return found

    assert await ids() == sorted(one.id for one in (*own, of_all, other))
    assert await ids(scope=SCOPE) == sorted(one.id for one in own)
    assert await ids(hearing=SCOPE) == sorted((own[0].id, paused.id, of_all.id))
    assert await ids(hearing=theirs) == sorted((of_all.id, other.id))
    assert await ids(hearing=Scope("user", "nobody")) == [of_all.id]
    assert await ids(status="disabled") == [disabled.id]
    assert await ids(scope=SCOPE, status="paused") == [paused.id]
    await refused(BadInput, facet.list(limit=0))


@check("STORE-343", "store", needs=("endpoints", "queues"))
async def endpoint_is_removed_once(store: Store) -> None:
    """Of concurrent removals one is told, with its event."""
    saved = await added(store)
    told = [event("endpoint.removed") for _ in range(4)]
    answers = await asyncio.gather(*(store.endpoints.remove(saved.id, event=one) for one in told))
    assert sorted(answers) == [False, False, False, True]
    assert len(await outbox_ids(store)) == 1
    assert await store.endpoints.get(saved.id) is None
    assert (await store.endpoints.admit(saved.id, seconds=5)).endpoint is None
    assert await store.endpoints.report(saved.id, failed=True, threshold=1, pause=5) == 0
    assert await store.endpoints.report(saved.id, failed=False, threshold=1, pause=5) == 0


@check("STORE-344", "store", needs=("endpoints",))
async def circuit_of_an_endpoint_opens_and_closes(store: Store) -> None:
    """It opens at the threshold, lets one caller try once its time is over, and closes with a success."""
    facet = store.endpoints
    saved = await added(store)

    async def waits(number: int = 1) -> list[float]:
        answers = await asyncio.gather(*(facet.admit(saved.id, seconds=30) for _ in range(number)))
        return sorted(answer.wait for answer in answers)

    assert await waits(3) == [0, 0, 0]
    assert await facet.report(saved.id, failed=True, threshold=2, pause=0.1) < 5
    assert await waits() == [0]
    await facet.report(saved.id, failed=True, threshold=2, pause=30)
    (wait,) = await waits()
    assert 20 < wait <= 30
    found = await facet.get(saved.id)
    assert found is not None
    assert (found.failures, found.version) == (2, 1)
    assert found.failing_since is not None
    assert found.open_until is not None
    await facet.report(saved.id, failed=True, threshold=2, pause=0.05)
    await asyncio.sleep(0.1)
    (leave, *others) = await waits(4)
    assert leave == 0
    assert all(20 < wait <= 30 for wait in others)
    assert len(others) == 3
    lasting = await facet.report(saved.id, failed=True, threshold=2, pause=30)
    assert 0.05 < lasting < 20
    assert await facet.report(saved.id, failed=False, threshold=2, pause=30) == 0
    assert await facet.get(saved.id) == saved
    assert await waits(2) == [0, 0]


@check("STORE-345", "store", needs=("endpoints",))
async def endpoint_that_becomes_active_again_has_no_failures(store: Store) -> None:
    """Any other change of the row leaves its health alone."""
    facet = store.endpoints
    saved = await added(store)
    await facet.report(saved.id, failed=True, threshold=1, pause=30)
    changed = await facet.save(evolve(saved, description="new"), expected_version=1)
    assert changed.failures == 1
    assert changed.open_until is not None
    disabled = await facet.save(evolve(changed, status="disabled"), expected_version=2)
    assert (disabled.failures, disabled.open_until) == (1, changed.open_until)
    again = await facet.save(evolve(disabled, status="active"), expected_version=3)
    assert (again.failures, again.failing_since, again.open_until) == (0, None, None)


@check("STORE-346", "store", needs=("queues",))
async def jobs_commit_with_the_settlement_that_brings_them(store: Store) -> None:
    """All of them or none, and a job whose key is known is not kept twice; a dead item commits its events (P72)."""
    await store.queues.accept(delivery())
    (claim,) = await take(store)
    await refused(ConnectionNotFound, store.queues.settle(claim, "done", jobs=[job(), job(connection_id="none")]))
    assert await items(store, "jobs") == []
    assert [item.status for item in await items(store, "inbox")] == ["processing"]
    for outcome in ("retry", "dead"):
        await refused(BadInput, store.queues.settle(claim, outcome, jobs=[job()]))
    known, _ = await store.queues.enqueue(job("known"))
    new = job("new")
    await store.queues.settle(claim, "done", jobs=[job("known"), new])
    assert sorted(item.id for item in await items(store, "jobs")) == sorted((known, new.id))
    await store.queues.accept(delivery("d2"))
    (other,) = await take(store)
    told = event()
    await store.queues.settle(other, "dead", error="gave up", events=[told])
    assert told.id in await outbox_ids(store)


@check("STORE-347", "store", needs=("queues",))
async def jobs_are_given_back_without_an_attempt(store: Store) -> None:
    """They are due again after the delay, as if they had not been claimed; a lost one is named and left alone."""
    for _ in range(3):
        await store.queues.enqueue(job())
    claims = await take_jobs(store)
    await store.queues.settle(claims[0], "done")
    assert await store.queues.give_back(claims) == [claims[0].id]
    again = await take_jobs(store)
    assert [claim.id for claim in again] == [claim.id for claim in claims[1:]]
    assert [claim.attempt for claim in again] == [1, 1]
    assert all(claim.fence > old.fence for claim, old in zip(again, claims[1:], strict=True))
    assert await store.queues.give_back(claims) == [claim.id for claim in claims]
    assert await store.queues.give_back(again[:1], delay=60) == []
    assert await take_jobs(store) == []
    await refused(LeaseLost, store.queues.settle(again[0], "done"))
    await store.queues.settle(again[1], "done")


@check("STORE-348", "store", needs=("once",))
async def dispatches_are_listed_by_page(store: Store) -> None:
    """Each with its status, attempts and last error; it keeps its id over attempts."""
    once = store.once

    def of(key: str, event_id: str, projector: str = "kit") -> Dispatch:
        return Dispatch(
            id=new_id(),
            key=key,
            event_id=event_id,
            projector=projector,
            definition_code="kit.code",
            recipient_key=f"user:{key}",
            metadata={"n": 1},
        )

    sent, failed, running = of("a", "e1"), of("b", "e1"), of("c", "e2", "other")
    for one in (sent, failed, running):
        assert (await once.begin_dispatch(one, owner="o", seconds=30)).fence == 1
    await once.finish_dispatch("a", owner="o", fence=1, status="sent")
    await once.finish_dispatch("b", owner="o", fence=1, status="failed", error="no route")
    assert (await once.begin_dispatch(of("b", "e1"), owner="o", seconds=30)).fence == 2
    await once.finish_dispatch("b", owner="o", fence=2, status="failed", error="no route still")
    whole = (await once.dispatches()).items
    assert [entry.dispatch for entry in whole] == sorted((sent, failed, running), key=lambda one: one.id)
    states = {entry.dispatch.key: (entry.status, entry.attempts, entry.error) for entry in whole}
    assert states == {"a": ("sent", 1, ""), "b": ("failed", 2, "no route still"), "c": ("running", 1, "")}
    assert all(entry.created_at <= entry.updated_at for entry in whole)
    first = await once.dispatches(limit=1)
    assert first.items == whole[:1]
    assert (await once.dispatches(after=first.next, limit=5)).items == whole[1:]

    async def keys(**choice: Any) -> set[str]:
        return {entry.dispatch.key for entry in (await once.dispatches(**choice)).items}

    assert await keys(event_id="e1") == {"a", "b"}
    assert await keys(projector="other") == {"c"}
    assert await keys(status="failed") == {"b"}
    assert await keys(event_id="e2", status="failed") == set()
    await refused(BadInput, once.dispatches(limit=0))
