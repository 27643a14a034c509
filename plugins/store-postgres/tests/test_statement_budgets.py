"""How many statements and transactions each path costs, as the driver sends them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from go_services_core.testing.checks.store import credential, established, event, new_id, now
from go_services_core.testing.checks.store_inbox import event_for
from go_services_core.testing.checks.store_queues import delivery, emit, take
from go_services_store_postgres.store import PostgresStore


async def traced(store: PostgresStore, call: Awaitable[Any]) -> tuple[list[str], list[str]]:
    """The statements that ``call`` ran, and the transaction control around them."""
    seen: list[str] = []
    store.trace(seen.append)
    try:
        await call
    finally:
        store.trace(None)
    control = [text.split()[0] for text in seen if text.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]
    return [text for text in seen if not text.startswith(("BEGIN", "COMMIT", "ROLLBACK"))], control


async def test_load_is_one_statement_without_a_transaction(store: PostgresStore) -> None:
    made = await established(store)
    statements, control = await traced(store, store.connections.load(made.id))
    assert (len(statements), control) == (1, [])


async def test_accepting_a_new_delivery_is_one_statement_without_a_transaction(store: PostgresStore) -> None:
    statements, control = await traced(store, store.queues.accept(delivery()))
    assert (len(statements), control) == (1, [])


async def test_refresh_is_two_units_of_at_most_eight_statements(store: PostgresStore) -> None:
    made = await established(store)

    async def refresh() -> None:
        opened = await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
        new = credential(made.id, 2)
        await store.connections.close_refresh(new, lease=opened.lease, active_version=1, event=event())

    statements, control = await traced(store, refresh())
    assert 1 < len(statements) <= 8
    assert control == ["BEGIN", "COMMIT"] * 2


async def test_claiming_and_settling_the_inbox_is_one_statement_each(store: PostgresStore) -> None:
    for number in range(20):
        await store.queues.accept(delivery(f"d{number}"))
    statements, control = await traced(store, take(store, limit=19))
    assert (len(statements), control) == (1, [])
    (claim,) = await take(store)
    statements, control = await traced(store, store.queues.settle(claim, "done"))
    assert (len(statements), control) == (1, [])


async def test_passing_a_batch_on_is_one_statement_without_a_transaction(store: PostgresStore) -> None:
    for number in range(20):
        await store.queues.accept(delivery(f"d{number}"))
    pairs = [(claim, event_for(claim)) for claim in await take(store)]
    statements, control = await traced(store, store.queues.pass_on(pairs))
    assert (len(pairs), len(statements), control) == (20, 1, [])


async def test_claim_of_the_outbox_does_not_grow_with_the_batch(store: PostgresStore) -> None:
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    await emit(store, *(event() for _ in range(30)))
    statements, control = await traced(store, take(store, "a", "b"))
    assert (len(statements), control) == (2, ["BEGIN", "COMMIT"])
    statements, _ = await traced(store, take(store, "a", "b"))
    assert len(statements) == 2


async def test_heartbeat_is_one_statement_for_each_queue(store: PostgresStore) -> None:
    for number in range(20):
        await store.queues.accept(delivery(f"d{number}"))
    statements, control = await traced(store, store.queues.heartbeat(await take(store), lease=30))
    assert (len(statements), control) == (1, [])


async def test_beginning_holding_and_ending_a_keyed_call_is_one_statement_each(store: PostgresStore) -> None:
    for call in (
        store.once.begin("operation", "k", digest=b"d", owner="a", seconds=30),
        store.once.extend("operation", "k", owner="a", fence=1, seconds=30),
        store.once.finish("operation", "k", owner="a", fence=1, ok=True),
    ):
        statements, control = await traced(store, call)
        assert (len(statements), control) == (1, [])


async def test_settling_a_batch_of_the_outbox_is_one_statement_whatever_its_size(store: PostgresStore) -> None:
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    await emit(store, *(event() for _ in range(30)))
    claims = await take(store, "a", "b")
    assert len(claims) == 60
    for batch in (claims[:1], claims[1:]):
        statements, _ = await traced(store, store.queues.settle_many(batch, "done"))
        assert len(statements) == 1
