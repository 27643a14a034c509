"""Rows that a person or a disk has changed are set aside, and hold up nobody."""

from __future__ import annotations

import psycopg

from go_services_core.testing.checks.store_queues import delivery, take
from go_services_store_postgres.store import PostgresStore


async def test_delivery_that_cannot_be_read_is_dead_and_its_neighbours_are_claimed(
    url: str, store: PostgresStore
) -> None:
    """P96. Also where nothing else is due: the claim goes on to what is behind it."""
    sent = [delivery(f"d{number}") for number in range(3)]
    for one in sent:
        await store.queues.accept(one)
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute(
            "UPDATE service_webhook_deliveries SET scope_type = '', scope_id = '' WHERE id = %s", [sent[0].id]
        )
    assert [claim.id for claim in await take(store, limit=1)] == [sent[1].id]
    assert [claim.id for claim in await take(store)] == [sent[2].id]
    (item,) = (await store.queues.list("inbox", status="dead")).items
    assert (item.id, item.attempts, item.error) == (sent[0].id, 1, "The delivery cannot be read: InvalidScope.")
