"""Claims of a long backlog begin where the last one ended, and lose no event that is committed behind that."""

from __future__ import annotations

import psycopg
import pytest
from attrs import evolve

from go_services_core.testing.checks.store import event, now
from go_services_core.testing.checks.store_queues import delivery, emit, take
from go_services_store_postgres.store import PostgresStore
from go_services_store_sql import front


async def names(store: PostgresStore) -> list[str]:
    claims = await take(store, "h", limit=2)
    await store.queues.settle_many(claims, "done")
    return [claim.event.id for claim in claims if claim.event is not None]


async def backlog(store: PostgresStore) -> None:
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, *(evolve(event(), id=f"b{number}") for number in range(1, 6)))
    assert await names(store) == ["b1", "b2"]
    await emit(store, evolve(event(), id="a1"))


async def test_claim_begins_behind_what_the_last_one_took(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the index what was handed out stays in front of it until the next VACUUM. P94: what came behind is not lost."""
    monkeypatch.setattr(front, "WHOLE", 3600.0)
    await backlog(store)
    assert await names(store) == ["b3", "b4"]
    assert await names(store) == ["b5"]  # the end: the next one begins at the first again
    await emit(store, evolve(event(), id="b0"))
    assert [await names(store), await names(store)] == [["a1", "b0"], []]


async def test_claim_that_finds_nothing_there_begins_at_the_first(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "WHOLE", 3600.0)
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, *(evolve(event(), id=f"b{number}") for number in (1, 2)))
    assert await names(store) == ["b1", "b2"]
    await emit(store, evolve(event(), id="a1"))
    assert await names(store) == ["a1"]


async def test_claim_begins_at_the_first_after_a_while(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "WHOLE", 0.0)
    await backlog(store)
    assert await names(store) == ["a1", "b3"]


async def test_claim_of_the_inbox_begins_where_the_last_one_ended(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due since earlier is found at the end, and is not lost (P94)."""
    monkeypatch.setattr(front, "WHOLE", 3600.0)

    async def taken() -> list[str]:
        claims = await take(store, limit=2)
        await store.queues.settle_many(claims, "done")
        return [claim.delivery.delivery_id for claim in claims if claim.delivery is not None]

    for name in ("b1", "b2", "b3", "b4", "b5", "b6", "a1"):
        await store.queues.accept(delivery(name))
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute("UPDATE service_webhook_deliveries SET next_attempt_at = NULL WHERE delivery_id = 'a1'")
        assert [await taken(), await taken()] == [["b1", "b2"], ["b3", "b4"]]
        raw.execute(
            "UPDATE service_webhook_deliveries SET next_attempt_at = received_at - interval '1 h' WHERE delivery_id = 'a1'"
        )
    assert [await taken() for _ in range(3)] == [["b5", "b6"], ["a1"], []]
