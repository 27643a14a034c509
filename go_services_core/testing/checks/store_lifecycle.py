"""Checks for stores: each change of state commits exactly one event, a change that fails none, and listeners hear."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import product
from typing import Any, cast

from attrs import evolve

from ...clock import SystemClock
from ...errors import InvalidTransition, LeaseLost, VersionConflict
from ...lifecycle import event as lifecycle_event
from ...model import Event
from ...protocols import Store
from ...resources import INSTALLATION_MOVES, SUBSCRIPTION_MOVES, Installation, Subscription
from ..kit import check
from .store import established, event, now, outbox_ids, refused
from .store_budgets import entry
from .store_jobs import job, take_jobs
from .store_outbox import broken
from .store_queues import delivery, emit, items, take
from .store_resources import installation, subscription

SUBSCRIPTION_EVENTS = {
    "active": "subscription.renewed",
    "expired": "subscription.expired",
    "errored": "subscription.renewal_failed",
    "cancelled": "subscription.cancelled",
}
SUBSCRIPTION_FIELDS: dict[str, dict[str, Any]] = {
    "subscription.renewed": {"expires_at": None, "replaces": None},
    "subscription.expired": {"expires_at": None},
    "subscription.renewal_failed": {"reason": "kit", "attempts": 1, "retry_at": None},
    "subscription.cancelled": {"reason": "kit"},
}
INSTALLATION_EVENTS = {
    "active": "installation.updated",
    "needs_reconsent": "installation.updated",
    "suspended": "installation.suspended",
    "uninstalled": "installation.uninstalled",
}


async def named(store: Store) -> list[tuple[str, str]]:
    """Name and id of every event, in the order of the ids."""
    return [(item.name, item.id) for item in await items(store, "outbox")]


async def added(store: Store, before: list[tuple[str, str]]) -> list[str]:
    """Names of the events since ``before``."""
    return [one[0] for one in await named(store) if one not in before]


def _of(found: Subscription | Installation, name: str, status: str) -> Event:
    payload: dict[str, Any] = {"status": status}
    if isinstance(found, Subscription):
        payload["subscription_id"] = found.id
        payload |= {key: getattr(found, key) for key in ("resource_type", "resource_id", "channel_id")}
        payload |= SUBSCRIPTION_FIELDS[name]
    else:
        payload |= {"installation_id": found.id, "install_type": found.install_type, "previous": found.status}
    about = found.connection_id if isinstance(found, Subscription) else None
    scope = found.scope if isinstance(found, Installation) else event().scope
    return lifecycle_event(
        SystemClock(), name, payload, provider_id=found.provider_id, scope=scope, connection_id=about
    )


@check("STORE-420", "store", needs=("queues",))
async def event_keeps_its_version_and_source(store: Store) -> None:
    """An event reaches its handlers as it was committed, with the version of its payload and its source."""
    await store.queues.register_handlers({"a": "*"}, now=now())
    wanted = event(version=3, source="webhook")
    await emit(store, wanted)
    (claim,) = await take(store, "a")
    assert claim.event == wanted


@check("STORE-421", "store", needs=("connections", "queues", "resources"))
async def each_move_of_a_subscription_commits_one_event(store: Store) -> None:
    """Each allowed move commits its event, by status and by version; a refused one, or a lost race, commits none."""
    facet, made = store.resources, await established(store)
    for number, (start, end, by_version) in enumerate(product(SUBSCRIPTION_MOVES, SUBSCRIPTION_MOVES, (False, True))):
        if start == end:
            continue
        found = await facet.save_subscription(subscription(made.id, f"c{number}"), expected_version=None)
        if start != "active":
            found = await facet.set_subscription_status(found.id, expected=["active"], status=start)  # type: ignore[arg-type]
        before, told = await named(store), _of(found, SUBSCRIPTION_EVENTS[end], end)

        async def move(found: Subscription = found, end: Any = end, told: Event = told, by: bool = by_version) -> Any:
            if by:
                wanted = evolve(found, status=end, updated_at=now())
                return await facet.save_subscription(wanted, expected_version=found.version, event=told)
            return await facet.set_subscription_status(found.id, expected=[found.status], status=end, event=told)

        if end in SUBSCRIPTION_MOVES[start]:
            assert (await move()).status == end
            assert await added(store, before) == [SUBSCRIPTION_EVENTS[end]], (start, end)
            again, wanted_status = evolve(told, id=event().id), cast("Any", end)
            await refused(
                VersionConflict,
                facet.save_subscription(
                    evolve(found, status=wanted_status), expected_version=found.version, event=again
                ),
            )
            assert await added(store, before) == [SUBSCRIPTION_EVENTS[end]]
        else:
            await refused(InvalidTransition, move())
            assert await added(store, before) == []


@check("STORE-422", "store", needs=("queues", "resources"))
async def each_move_of_an_installation_commits_one_event(store: Store) -> None:
    """Each allowed move commits its event; a refused one commits none."""
    facet = store.resources
    for number, (start, end) in enumerate(product(INSTALLATION_MOVES, INSTALLATION_MOVES)):
        if start == end:
            continue
        found = await facet.upsert_installation(installation(install_type=f"t{number}"))
        if start != "active":
            found = await facet.set_installation_status(found.id, expected=["active"], status=start)  # type: ignore[arg-type]
        before, told = await named(store), _of(found, INSTALLATION_EVENTS[end], end)
        moving = facet.set_installation_status(found.id, expected=[found.status], status=end, event=told)  # type: ignore[arg-type]
        if end in INSTALLATION_MOVES[start]:
            assert (await moving).status == end
            assert await added(store, before) == [INSTALLATION_EVENTS[end]], (start, end)
        else:
            await refused(InvalidTransition, moving)
            assert await added(store, before) == []


@check("STORE-423", "store", needs=("connections", "queues"))
async def data_syncs_announce_what_becomes_of_them(store: Store) -> None:
    """A job with a mode commits one event when it is queued, done, dead or requeued; a retry and a late settle none.

    Jobs without a mode, which are the runtime's own, commit none.
    """
    queues, made = store.queues, await established(store)
    await queues.register_handlers({"a": "job.*"}, now=now() - timedelta(hours=1))
    before = await named(store)
    sync = job("once", mode="delta", connection_id=made.id)
    assert await queues.enqueue(sync) == (sync.id, True)
    assert await queues.enqueue(evolve(sync, id=event().id)) == (sync.id, False)
    (claim,) = await take_jobs(store)
    await queues.settle(claim, "retry")
    (claim,) = await take_jobs(store)
    await refused(LeaseLost, queues.settle(evolve(claim, fence=claim.fence + 1), "dead"))
    await queues.settle(claim, "dead", error="gave up")
    answers = await asyncio.gather(*(queues.requeue("jobs", sync.id) for _ in range(3)))
    assert sorted(answers) == [False, False, True]
    (claim,) = await take_jobs(store)
    assert await queues.settle_many([claim, evolve(claim, fence=9)], "done") == [claim.id]
    told = [one.event for one in await take(store, "a") if one.event is not None]
    told.sort(key=lambda one: ("job.queued", "job.failed", "job.requeued", "job.succeeded").index(one.name))
    assert [one.name for one in told] == ["job.queued", "job.failed", "job.requeued", "job.succeeded"]
    assert {(one.connection_id, one.provider_id, one.scope) for one in told} == {(made.id, "kit", sync.scope)}
    assert [(one.payload["job_id"], one.payload["mode"]) for one in told] == [(sync.id, "delta")] * 4
    assert (told[1].payload["attempts"], told[1].payload["error"]) == (2, "gave up")
    between = await named(store)
    for outcome in ("done", "dead"):
        own = job(mode="")
        await queues.enqueue(own)
        (claim,) = await take_jobs(store)
        await queues.settle(claim, "done" if outcome == "done" else "dead")
        await queues.requeue("jobs", own.id)
    assert await named(store) == between
    assert len(between) == len(before) + 4


@check("STORE-424", "store", needs=("connections", "queues", "resources"))
async def disconnect_announces_each_subscription_that_it_cancels(store: Store) -> None:
    """One `subscription.cancelled` for each that was not cancelled before, and none where nothing is committed."""
    made, facet = await established(store), store.resources
    for channel in ("one", "two", "before"):
        await facet.save_subscription(subscription(made.id, channel), expected_version=None)
    gone = await facet.subscription_by_channel("kit", "before")
    assert gone is not None
    await facet.set_subscription_status(gone.id, expected=["active"], status="cancelled")
    await store.queues.register_handlers({"a": "*"}, now=now() - timedelta(hours=1))
    await take(store, "a")
    before = await outbox_ids(store)
    await refused(VersionConflict, store.connections.disconnect(made.id, reason="kit", event=event(), version=7))
    assert await outbox_ids(store) == before
    cause = event("connection.disconnected", made.id)
    await store.connections.disconnect(made.id, reason="user asked", event=cause)
    await store.connections.disconnect(made.id, reason="again", event=event())
    told = [claim.event for claim in await take(store, "a") if claim.event is not None]
    assert [one.name for one in told] == ["connection.disconnected", *["subscription.cancelled"] * 2]
    assert {one.payload["channel_id"] for one in told[1:]} == {"one", "two"}
    for one in told[1:]:
        assert (one.payload["status"], one.payload["reason"], one.connection_id) == ("cancelled", "user asked", made.id)


@check("STORE-425", "store", needs=("connections", "queues", "sealed"))
async def each_change_of_the_secret_state_commits_its_event(store: Store) -> None:
    """The event of a change is committed with it; where nothing changes it is not."""
    made = await established(store)
    before = await named(store)
    assert await store.sealed.mark(made.id, "unreadable", error="kit", event=event("credential.unreadable", made.id))
    assert not await store.sealed.mark(made.id, "unreadable", event=event("credential.unreadable", made.id))
    assert await store.sealed.mark(made.id, "ok", event=event("credential.readable", made.id))
    assert not await store.sealed.mark(made.id, "ok", event=event("credential.readable", made.id))
    assert await added(store, before) == ["credential.unreadable", "credential.readable"]


@check("STORE-426", "store", needs=("connections", "queues"))
async def listener_hears_what_was_committed(store: Store) -> None:
    """A listener is told of every event of a unit that was committed, also of those that the store makes."""
    heard: list[str] = []
    store.listen(lambda events: heard.extend(one.name for one in events))
    made = await established(store)
    assert sorted(heard) == ["connection.established", "grant.expanded"]
    await refused(VersionConflict, store.connections.disconnect(made.id, reason="kit", event=event(), version=7))
    await emit(store, event("kit.one"))
    assert heard[2:] == ["kit.one"]
    ending = asyncio.ensure_future(store.connections.require_reconsent(made.id, reason="kit", event=event("kit.two")))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    for _ in range(1000):
        if (await store.connections.get(made.id)).status == "needs_reconsent" and heard[3:]:
            break
        await asyncio.sleep(0.01)
    assert heard[3:] == ["kit.two"]
    store.listen(None)
    await emit(store, event("kit.three"))
    assert heard[3:] == ["kit.two"]


@check("STORE-428", "store", needs=("queues",))
async def handler_without_a_pattern_gets_nothing_more(store: Store) -> None:
    """An empty pattern ends what a known handler gets, and makes none known."""
    await store.queues.register_handlers({"a": "*"}, now=now())
    await store.queues.register_handlers({"a": "", "b": ""}, now=now())
    await emit(store, event())
    assert await take(store, "a") == []
    assert [one.name for one in (await store.queues.outbox_status()).handlers] == ["a"]


@check("STORE-429", "store", needs=("queues",))
async def listener_hears_what_was_passed_on(store: Store) -> None:
    """A listener is told of the events of deliveries that were passed on together, of those of lost claims not."""
    heard: list[str] = []
    for name in ("one", "two"):
        await store.queues.accept(delivery(name))
    pairs = [(claim, event("webhook.kit", id=claim.id)) for claim in await take(store)]
    store.listen(lambda events: heard.extend(one.id for one in events))
    assert await store.queues.pass_on([pairs[0]]) == []
    assert await store.queues.pass_on(pairs) == [pairs[0][0].id]
    store.listen(None)
    assert heard == [claim.id for claim, _ in pairs]


@check("STORE-430", "store", needs=("queues",))
async def listener_hears_nothing_of_a_settlement_that_failed(store: Store) -> None:
    """Data syncs and events of a settlement that fails are not kept, and nobody is told of them."""
    heard: list[str] = []
    await store.queues.accept(delivery())
    (claim,) = await take(store)
    sync, told = job(mode="delta"), event("kit.one")
    store.listen(lambda events: heard.extend(one.name for one in events))
    await refused(ArithmeticError, store.queues.settle(claim, "done", events=[told], jobs=[sync], work=broken))
    assert (heard, await items(store, "jobs"), await items(store, "outbox")) == ([], [], [])
    await store.queues.settle(claim, "done", events=[told], jobs=[sync])
    assert sorted(heard) == ["job.queued", "kit.one"]


@check("STORE-427", "store", needs=("log",))
async def log_is_trimmed_by_scope(store: Store) -> None:
    """Of each scope the newest entries stay; the oldest beyond them go first, a number at a time, scope by scope."""
    base = now().replace(microsecond=0)
    rows = [
        entry(scope=scope, created_at=base + timedelta(seconds=number), action=f"{scope.id}{number}")
        for scope in (event().scope, evolve(event().scope, id="u2"))
        for number in range(4 if scope.id == "u2" else 6)
    ]
    await store.log.record(rows)

    async def trimmed(*, limit: int, dry_run: bool = False) -> list[int]:
        counts: list[int] = []
        after: str | None = ""
        while after is not None:
            count, after = await store.log.trim(rows=3, limit=limit, after=after, dry_run=dry_run)
            counts.append(count)
            assert len(counts) < 50, "trimming does not end"
        return counts

    async def left() -> set[str]:
        return {one.action for one in (await store.log.activity()).items}

    for limit in (1, 2, 5, 100):
        assert sum(await trimmed(limit=limit, dry_run=True)) == 4
    assert len(await left()) == 10
    assert await store.log.trim(rows=3, limit=1) == (1, "")
    assert {one.action for one in rows} - await left() == {"u10"}
    counts = await trimmed(limit=2)
    assert (sum(counts), max(counts)) == (3, 2)
    assert sum(await trimmed(limit=100)) == 0
    assert await left() == {"u13", "u14", "u15", "u21", "u22", "u23"}
