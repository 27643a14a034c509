"""Units that meet in the middle. Each test holds one of them there until the other one waits."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from attrs import evolve

from go_services_core.testing.checks.store import change, credential, established, event, new_id, now
from go_services_core.testing.checks.store_queues import delivery, emit, items, take
from go_services_store_postgres.store import PostgresStore

from .gate import closed_gate, wait_at_gate


async def rows(url: str, text: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(text.encode())
        return await cursor.fetchall()


async def test_lower_id_that_commits_later_is_delivered(url: str, store: PostgresStore) -> None:
    await store.queues.register_handlers({"h": "*"}, now=now())
    for name in ("d1", "d2"):
        await store.queues.accept(delivery(name))
    early, late = await take(store)
    low, high = sorted((event(), event()), key=lambda told: told.id)
    async with closed_gate(url) as gate:
        held = asyncio.ensure_future(store.queues.settle(early, "done", events=[low], work=wait_at_gate))
        await gate.waiting()
        await store.queues.settle(late, "done", events=[high])
        (claim,) = await take(store, "h")
        assert claim.event == high
        await store.queues.settle(claim, "done")
        await gate.open()
        await held
    (claim,) = await take(store, "h")
    assert claim.event == low


async def test_disconnect_destroys_what_a_refresh_saves_meanwhile(url: str, store: PostgresStore) -> None:
    made = await established(store)
    facet = store.connections
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    async with await psycopg.AsyncConnection.connect(url) as blocker, closed_gate(url) as gate:
        await blocker.execute("SELECT 1 FROM service_refresh_intents FOR UPDATE")
        new = credential(made.id, 2)
        saving = asyncio.ensure_future(
            facet.close_refresh(new, lease=opened.lease, active_version=1, event=event("refreshed", made.id))
        )
        await gate.waiting(1)
        ending = asyncio.ensure_future(facet.disconnect(made.id, reason="asked", event=event("ended", made.id)))
        await gate.waiting(2)
        await blocker.rollback()
        await saving
        ended = await ending
    assert await facet.load(made.id) == (ended, None)
    stored = await rows(url, "SELECT version, length(encrypted_payload), status FROM service_credentials ORDER BY 1")
    assert stored == [(1, 0, "revoked"), (2, 0, "revoked")]


async def test_terminal_failure_does_not_end_a_connection_that_was_just_renewed(url: str, store: PostgresStore) -> None:
    made = await established(store)
    facet = store.connections
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    async with await psycopg.AsyncConnection.connect(url) as blocker, closed_gate(url) as gate:
        await blocker.execute("LOCK TABLE service_lifecycle_outbox IN SHARE MODE")
        renewed = evolve(change(), credential=credential(made.id, 2))
        renewing = asyncio.ensure_future(facet.establish(renewed))
        await gate.waiting(1)
        failing = asyncio.ensure_future(
            facet.fail_refresh(opened.lease, error="invalid_grant", terminal=True, event=event("reauth", made.id))
        )
        await gate.waiting(2)
        await blocker.rollback()
        await asyncio.gather(renewing, failing)
    connection, active = await facet.load(made.id)
    assert connection.status == "active"
    assert active == renewed.credential
    assert "reauth" not in [item.name for item in await items(store, "outbox")]


async def test_one_version_is_saved_by_a_refresh_or_by_a_new_consent(url: str, store: PostgresStore) -> None:
    made = await established(store)
    facet = store.connections
    opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
    async with await psycopg.AsyncConnection.connect(url) as blocker, closed_gate(url) as gate:
        await blocker.execute("SELECT 1 FROM service_refresh_intents FOR UPDATE")
        refreshing = asyncio.ensure_future(
            facet.close_refresh(credential(made.id, 2), lease=opened.lease, active_version=1, event=event())
        )
        await gate.waiting(1)
        consenting = asyncio.ensure_future(facet.establish(evolve(change(), credential=credential(made.id, 2))))
        await gate.waiting(2)
        await blocker.rollback()
        saved, refused = await asyncio.gather(refreshing, consenting, return_exceptions=True)
    assert saved is None
    assert getattr(refused, "metadata", None) == {"connection_id": made.id, "next_version": 3}


async def test_claim_does_not_wait_for_rows_that_somebody_holds(url: str, store: PostgresStore) -> None:
    for name in ("d1", "d2"):
        await store.queues.accept(delivery(name))
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT 1 FROM service_webhook_deliveries WHERE delivery_id = 'd1' FOR UPDATE")
        assert [claim.delivery.delivery_id for claim in await take(store) if claim.delivery] == ["d2"]
    assert [claim.delivery.delivery_id for claim in await take(store) if claim.delivery] == ["d1"]


async def test_events_that_a_stalled_worker_holds_do_not_hold_up_the_others(url: str, store: PostgresStore) -> None:
    await store.queues.register_handlers({"h": "*"}, now=now())
    stuck, free = event(), event()
    await emit(store, stuck, free)
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT 1 FROM service_pending_events WHERE event_id = %s FOR UPDATE", [stuck.id])
        assert [claim.event for claim in await take(store, "h")] == [free]
    assert [claim.event for claim in await take(store, "h")] == [stuck]
