"""Checks for stores: retention."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from attrs import evolve

from ...delivery_specs import Burst
from ...errors import BadInput
from ...protocols import Store
from ...resources import HISTORY, BudgetKey
from ..kit import check
from .store import SCOPE, attempt, change, credential, established, event, new_id, now, refused
from .store_budgets import entry, logged
from .store_inbox import event_for, in_burst
from .store_jobs import job, take_jobs
from .store_leases import dispatch
from .store_queues import delivery, items, take
from .store_resources import installation, subscribed, subscription

EVERYTHING = dict.fromkeys(HISTORY, 0.0)


async def pruned(store: Store, **options: Any) -> dict[str, int]:
    """Remove all history that is older than this moment; the tables that had any."""
    await asyncio.sleep(0.01)  # the clock must have moved on
    counts = await store.prune(EVERYTHING, **options)
    assert set(counts) == set(HISTORY)
    return {table: count for table, count in counts.items() if count}


@check("STORE-190", "store", needs=("connections", "queues"))
async def settled_items_are_history(store: Store) -> None:
    """Processed, quarantined, delivered and succeeded items go; what waits, runs or is dead stays and works on."""
    queues = store.queues
    await queues.register_handlers({"h": "issue.*"}, now=now())
    await queues.accept(delivery("done"))
    (claim,) = await take(store)
    told = [event("issue.opened"), event("issue.closed"), event("unheard")]
    await queues.settle(claim, "done", events=told)
    delivered, dead = await take(store, "h")
    await queues.settle(delivered, "done")
    await queues.settle(dead, "dead")
    await queues.accept(delivery("dead"))
    (claim,) = await take(store)
    await queues.settle(claim, "dead")
    for name, body in (("waits", b"body"), ("waits", b"other")):
        await queues.accept(delivery(name, body))
    (running,) = await take(store)
    for outcome in ("done", "dead"):
        await queues.enqueue(job(outcome))
        (held,) = await take_jobs(store)
        await queues.settle(held, "done" if outcome == "done" else "dead")
    await queues.enqueue(job("waits", delay=60.0))
    expected = {"service_lifecycle_outbox": 2, "service_webhook_deliveries": 2, "service_sync_jobs": 1}
    before = [await items(store, queue) for queue in ("inbox", "outbox", "jobs")]
    assert await pruned(store, dry_run=True) == expected
    assert [await items(store, queue) for queue in ("inbox", "outbox", "jobs")] == before
    assert await pruned(store) == expected
    assert await pruned(store) == {}
    assert sorted(item.status for item in await items(store, "inbox")) == ["dead", "processing"]
    assert [(item.id, item.status) for item in await items(store, "outbox")] == [(dead.id, "dead")]
    assert sorted(item.status for item in await items(store, "jobs")) == ["failed", "queued"]
    await queues.settle(running, "done")
    assert await queues.requeue("outbox", dead.id)
    assert [claim.event for claim in await take(store, "h")] == [dead.event]
    assert (await queues.enqueue(job("done")))[1]
    assert not (await queues.enqueue(job("waits", delay=60.0)))[1]


@check("STORE-431", "store", needs=("queues",))
async def delivery_is_history_when_its_handlers_are_done(store: Store) -> None:
    """A processed delivery stays while its event waits for its handlers, is with one of them or is dead there."""
    queues = store.queues
    await queues.register_handlers({"h": "webhook.*"}, now=now() - timedelta(hours=1))
    await queues.accept(delivery("read"))
    (claim,) = await take(store)
    await queues.pass_on([(claim, event_for(claim))])
    left = {"service_webhook_deliveries": 0.0}
    await asyncio.sleep(0.01)
    assert await store.prune(left) == {"service_webhook_deliveries": 0}
    (held,) = await take(store, "h")
    assert await store.prune(left) == {"service_webhook_deliveries": 0}
    await queues.settle(held, "dead", error="broken")
    assert await store.prune(left) == {"service_webhook_deliveries": 0}
    assert await queues.requeue("outbox", held.id)
    (held,) = await take(store, "h")
    await queues.settle(held, "done")
    assert await store.prune(left) == {"service_webhook_deliveries": 1}


@check("STORE-460", "store", needs=("queues",))
async def delivery_that_nobody_handles_is_history_after_its_time(store: Store) -> None:
    """Superseded, quarantined and dropped deliveries go after their time, not before it; the newest of a burst stays
    until it is handled."""
    queues, table = store.queues, "service_webhook_deliveries"
    burst = Burst(mode="debounce", window=0.05)
    newest = [in_burst() for _ in range(3)]
    for one in newest:
        await queues.accept(one, burst=burst)
    await queues.accept(delivery("d", b"first"))
    for body in (b"dropped", b"quarantined"):
        other = await queues.accept(delivery("d", body))
        if body == b"dropped":
            assert await queues.end_quarantine(other.id, release=False)
    await asyncio.sleep(0.06)
    held = await take(store)
    found = sorted(item.status for item in await items(store, "inbox"))
    assert found == ["dropped", "processing", "processing", "quarantined", "superseded", "superseded"]
    assert await store.prune({table: 60.0}) == {table: 0}
    await asyncio.sleep(0.01)  # some were superseded as the newest was claimed, maybe in this very millisecond
    assert await store.prune({table: 0.0}) == {table: 4}
    assert {claim.id for claim in held} == {item.id for item in await items(store, "inbox")}
    assert newest[-1].id in {claim.id for claim in held}


@check("STORE-191", "store", needs=("connections", "once", "log", "resources", "budgets"))
async def ended_entries_are_history(store: Store) -> None:
    """What ended or was left in the ledgers, the log, uninstalled apps and windows that are over go; the rest stays."""
    once = store.once
    for name, ok in (("done", True), ("failed", False)):
        begun = await once.begin("command", name, digest=b"d", owner="a", seconds=30)
        await once.finish("command", name, owner="a", fence=begun.fence, ok=ok)
    held = await once.begin("command", "running", digest=b"d", owner="a", seconds=30)
    left = await once.begin("command", "left", digest=b"d", owner="a", seconds=30)
    await once.extend("command", "left", owner="a", fence=left.fence, seconds=0)
    sent = await once.begin_dispatch(dispatch("sent"), owner="a", seconds=30)
    await once.finish_dispatch("sent", owner="a", fence=sent.fence, status="sent")
    await once.begin_dispatch(dispatch("running"), owner="a", seconds=30)
    await once.claim("over", ttl=-1)
    await once.claim("held", ttl=30)
    future = entry(created_at=now() + timedelta(hours=1))
    await store.log.record([entry(), future])
    app = await store.resources.upsert_installation(installation())
    await store.resources.set_installation_status(app.id, expected=["active"], status="uninstalled")
    live = await store.resources.upsert_installation(installation())
    first = await subscribed(store)
    await store.resources.set_subscription_status(first.id, expected=["active"], status="cancelled")
    await store.resources.save_subscription(subscription(first.connection_id), expected_version=None)
    cancelled = await store.resources.save_subscription(subscription(first.connection_id, "c2"), expected_version=None)
    await store.resources.set_subscription_status(cancelled.id, expected=["active"], status="cancelled")
    over, running = BudgetKey("kit", SCOPE, "over"), BudgetKey("kit", SCOPE, "running")
    await store.budgets.take(over, 1, limit=1, window=0.001)
    await store.budgets.take(running, 1, limit=1, window=60)
    counts = await pruned(store)
    for table in ("service_replay_ledger", "service_subscriptions"):  # a store may drop these at once
        assert counts.pop(table, 1) == 1
    assert counts == {
        "service_idempotency": 3,
        "service_notification_dispatches": 1,
        "service_activity_entries": 1,
        "service_installations": 1,
        "service_rate_limit_state": 1,
    }
    assert (await once.begin("command", "done", digest=b"e", owner="a", seconds=30)).state == "new"
    await once.finish("command", "running", owner="a", fence=held.fence, ok=True)
    assert (await once.begin_dispatch(dispatch("running"), owner="b", seconds=30)).state == "running"
    assert not await once.claim("held", ttl=30)
    assert await logged(store) == [future.id]
    assert [one.id for one in (await store.resources.installations()).items] == [live.id]
    assert {one.channel_id for one in (await store.resources.subscriptions()).items} == {"c1", "c2"}
    assert await store.budgets.peek(over) is None
    assert not (await store.budgets.take(running, 1, limit=1, window=60)).granted


@check("STORE-192", "store", needs=("connections",))
async def connections_lose_only_their_past(store: Store) -> None:
    """Superseded ciphertexts and grants go and version numbers are not used again; what is active stays."""
    facet = store.connections
    made = await established(store)
    for version, granted in ((2, ("write",)), (3, ("write",))):
        new = credential(made.id, version, granted=granted)
        await facet.establish(evolve(change(), credential=new))
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    await facet.begin_attempt(attempt(b"over", b"binding", expires_at=now() - timedelta(seconds=1)))
    open_attempt = attempt(b"open", b"binding")
    await facet.begin_attempt(open_attempt)
    before, grants = await facet.load(made.id), await facet.grants(made.id)
    counts = await pruned(store)
    assert counts["service_credentials"] == 2
    assert counts["service_oauth_attempts"] == 1
    assert counts["service_grant_snapshots"] == 1
    assert "service_refresh_intents" not in counts
    assert await pruned(store) == {}
    assert (await facet.load(made.id), await facet.grants(made.id)) == (before, grants)
    consumed = await facet.consume_attempt(open_attempt.state_hash, open_attempt.binding_hash, now=now())
    assert consumed == open_attempt
    new = credential(made.id, 4, granted=("read",))
    await facet.close_refresh(new, lease=opened.lease, active_version=3, event=event())
    snapshot = await facet.grants(made.id)
    assert snapshot is not None
    assert snapshot.version == 3


@check("STORE-193", "store", needs=("log",))
async def history_is_kept_as_long_as_asked(store: Store) -> None:
    """Only what is older goes, in batches of any size; a policy that cannot be followed removes nothing."""
    entries = [entry(created_at=now() - timedelta(days=number)) for number in range(7)]
    await store.log.record(entries)
    table, day = "service_activity_entries", 86_400.0
    kept = [one.id for one in entries]
    for policy in ({table: -1.0}, {table: float("nan")}, {table: float("inf")}, {table: 0.0, "service_leases": 0.0}):
        await refused(BadInput, store.prune(policy))
    await refused(BadInput, store.prune({table: 0.0}, batch=0))
    assert await store.prune({}) == {}
    assert await store.prune({table: 30 * day}) == {table: 0}
    assert await logged(store) == kept
    assert await store.prune({table: 4.5 * day}, batch=1) == {table: 2}
    assert await logged(store) == kept[:5]
    assert await store.prune({table: 1.5 * day}, batch=2) == {table: 3}
    assert await logged(store) == kept[:2]
