"""Order per key, where transactions of several workers overlap, and what it costs."""

from __future__ import annotations

import asyncio

import psycopg

from go_services_core.testing.checks.store import event, now
from go_services_core.testing.checks.store_queues import delivery, emit, take
from go_services_store_postgres.store import PostgresStore
from go_services_store_sql import inbox, jobs, outbox
from go_services_store_sql.dialect import POSTGRES, Json


async def test_event_waits_for_an_earlier_one_that_another_worker_is_handing_out(
    url: str, store: PostgresStore
) -> None:
    await store.queues.register_handlers({"h": "*"}, now=now())
    low, high = sorted((event(order_key="k"), event(order_key="k")), key=lambda told: told.id)
    free = event()
    await emit(store, low, high, free)
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("DELETE FROM service_pending_events WHERE event_id = %s", [low.id])
        assert [claim.event for claim in await take(store, "h")] == [free]
        await other.rollback()
    (first,) = await take(store, "h")
    assert first.event == low
    await store.queues.settle(first, "done")
    assert [claim.event for claim in await take(store, "h")] == [high]


async def test_workers_at_once_keep_the_order_of_every_key(url: str, store: PostgresStore) -> None:
    sent = sorted((delivery(f"d{number}", order_key=f"k{number % 3}") for number in range(30)), key=lambda one: one.id)
    for one in sent:
        await store.queues.accept(one)
    done: list[str] = []
    running: set[str] = set()

    async def work(owner: str) -> None:
        while len(done) < len(sent):
            for claim in await take(store, owner=owner, limit=2):
                assert claim.delivery is not None
                key = claim.delivery.order_key or ""
                assert key not in running
                running.add(key)
                await asyncio.sleep(0)
                done.append(claim.id)
                running.remove(key)
                await store.queues.settle(claim, "done")

    await asyncio.gather(*(work(f"w{number}") for number in range(6)))
    keys = {one.id: one.order_key for one in sent}
    for key in set(keys.values()):
        assert [id for id in done if keys[id] == key] == [one.id for one in sent if one.order_key == key]


async def test_claims_walk_what_is_due_in_order_and_look_up_earlier_ones_of_a_key(url: str) -> None:
    values = {"owner": "w", "seconds": 1.0, "rows": 10, "handlers": Json(["h"]), "kinds": Json(["k"])}
    values |= {"after": "", "due_from": now()}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")  # which an empty table would get
        for statement, tables in (
            (inbox.CLAIM, ["service_webhook_deliveries"]),
            (outbox.CLAIM, ["service_event_deliveries", "service_pending_events"]),
            (outbox.LOOK, ["service_event_deliveries", "service_pending_events"]),
            (jobs.CLAIM, ["service_sync_jobs"]),
        ):
            compiled = statement.compiled(POSTGRES)
            lines = connection.execute(f"EXPLAIN {compiled.text}".encode(), compiled.bind(values)).fetchall()
            plan = "\n".join(line for (line,) in lines)
            assert f"Index Scan using ix_{tables[0]}_due" in plan
            assert "Sort" not in plan
            for table in tables:
                assert f"ix_{table}_order" in plan
