"""How many statements and commits each path costs, as SQLite counts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from go_services_core.testing.checks.store import credential, established, event, new_id, now
from go_services_core.testing.checks.store_budgets import REST
from go_services_core.testing.checks.store_jobs import job, take_jobs
from go_services_core.testing.checks.store_leases import dispatch
from go_services_core.testing.checks.store_leasing import DAY as OF_A_DAY
from go_services_core.testing.checks.store_leasing import A
from go_services_core.testing.checks.store_queues import delivery, emit, take
from go_services_core.testing.checks.store_resources import cursor, installation, subscription
from go_services_store_sqlite.store import SqliteStore
from go_services_store_sqlite.writer import CHECKPOINT_UNITS

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA")


async def traced(store: SqliteStore, call: Awaitable[Any]) -> tuple[list[str], list[str]]:
    """The statements that ``call`` ran, and the transaction control around them."""
    seen: list[str] = []
    store.trace(seen.append)
    try:
        await call
    finally:
        store.trace(None)
    control = [text for text in seen if text.startswith(CONTROL)]
    return [text for text in seen if text not in control], control


async def test_load_is_one_statement_without_a_transaction(store: SqliteStore) -> None:
    made = await established(store)
    statements, control = await traced(store, store.connections.load(made.id))
    assert len(statements) == 1
    assert control == []


async def test_outlooks_of_many_connections_are_one_statement(store: SqliteStore) -> None:
    for number in range(30):
        made = await established(store, f"account-{number}")
        lease = (await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())).lease
        await store.connections.fail_refresh(lease, error="kit", terminal=False, event=None, retry_in=40)
    due = store.connections.due("kit", by="expires_at", before=now() + timedelta(days=1))
    for call in (store.connections.outlooks(), due):
        statements, control = await traced(store, call)
        assert len(statements) == 1
        assert "encrypted_payload" not in statements[0]
        assert control == []


async def test_accepting_a_new_delivery_is_one_statement_without_a_savepoint(store: SqliteStore) -> None:
    statements, control = await traced(store, store.queues.accept(delivery()))
    assert len(statements) == 1
    assert control == ["BEGIN IMMEDIATE", "COMMIT"]


async def test_refresh_is_two_units_of_at_most_eight_statements(store: SqliteStore) -> None:
    made = await established(store)

    async def refresh() -> None:
        opened = await store.connections.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
        new = credential(made.id, 2)
        await store.connections.close_refresh(new, lease=opened.lease, active_version=1, event=event())

    statements, control = await traced(store, refresh())
    assert 1 < len(statements) <= 8
    assert control == ["BEGIN IMMEDIATE", "COMMIT"] * 2


async def test_claiming_and_settling_the_inbox_is_one_statement_each(store: SqliteStore) -> None:
    for number in range(20):
        await store.queues.accept(delivery(f"d{number}"))
    statements, _ = await traced(store, take(store, limit=19))
    assert len(statements) == 1
    (claim,) = await take(store)
    statements, _ = await traced(store, store.queues.settle(claim, "done"))
    assert len(statements) == 1


async def test_claim_of_the_outbox_does_not_grow_with_the_batch(store: SqliteStore) -> None:
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    await emit(store, *(event() for _ in range(30)))
    first, _ = await traced(store, take(store, "a", limit=30))
    second, _ = await traced(store, take(store, "b", limit=30))
    assert len(first) <= 5  # with the hand-over of 30 new events to two handlers
    assert len(second) <= 3


async def test_deliveries_of_one_turn_of_the_loop_are_two_statements_and_one_commit(store: SqliteStore) -> None:
    heard: list[Any] = []
    store.listen(heard.append)  # a listener makes no difference: no delivery is an event yet
    for many in (2, 64):
        calls = asyncio.gather(*(store.queues.accept(delivery(f"{many}-{number}")) for number in range(many)))
        statements, control = await traced(store, calls)
        assert len(statements) == 2
        assert control == ["BEGIN IMMEDIATE", "COMMIT"]
    store.listen(None)
    assert heard == []
    assert len((await store.queues.list("inbox")).items) == 66


async def test_deliveries_that_are_known_cost_their_neighbours_no_statement(store: SqliteStore) -> None:
    await store.queues.accept(delivery("known"))
    calls = asyncio.gather(*(store.queues.accept(delivery(name)) for name in ("known", "a", "known", "b", "b")))
    statements, control = await traced(store, calls)
    assert len(statements) == 2 + 3 * 2  # each duplicate by itself: an insert that finds it, and what it finds
    assert control == ["BEGIN IMMEDIATE", "COMMIT"]


async def test_changes_of_one_turn_of_the_loop_share_a_commit(store: SqliteStore) -> None:
    async def put() -> None:
        time.sleep(0.002)  # noqa: ASYNC251  the writer could run meanwhile, and would not wait for the others
        await store.queues.enqueue(job())

    statements, control = await traced(store, asyncio.gather(*(put() for _ in range(16))))
    assert len(statements) == 16
    assert control == ["BEGIN IMMEDIATE", "COMMIT"]  # no savepoints: each is undone by itself where it fails


async def test_log_is_copied_less_often_for_changes_that_share_commits(store: SqliteStore) -> None:
    async def arrive(many: int) -> None:
        await asyncio.gather(*(store.queues.accept(delivery(new_id())) for _ in range(many)))

    _, control = await traced(store, arrive(CHECKPOINT_UNITS + 50))
    assert not [text for text in control if text.startswith("PRAGMA wal_checkpoint")]
    _, control = await traced(store, arrive(3 * CHECKPOINT_UNITS))
    assert len([text for text in control if text.startswith("PRAGMA wal_checkpoint(RESTART)")]) == 1


async def test_claiming_and_settling_jobs_is_one_statement_each(store: SqliteStore) -> None:
    for _ in range(20):
        await store.queues.enqueue(job())
    statements, _ = await traced(store, take_jobs(store, limit=19))
    assert len(statements) == 1
    (claim,) = await take_jobs(store)
    statements, _ = await traced(store, store.queues.checkpoint(claim, "here", lease=30))
    assert len(statements) == 1
    statements, _ = await traced(store, store.queues.settle(claim, "done"))
    assert len(statements) == 1


async def test_compare_and_set_is_one_statement(store: SqliteStore) -> None:
    made = await established(store)
    await store.resources.advance_cursor(cursor(made.id, "a"), expected="")
    statements, _ = await traced(store, store.resources.advance_cursor(cursor(made.id, "b"), expected="a"))
    assert len(statements) == 1
    saved = await store.resources.save_subscription(subscription(made.id), expected_version=None)
    statements, _ = await traced(store, store.resources.save_subscription(saved, expected_version=1))
    assert len(statements) == 1
    move = store.resources.set_subscription_status(saved.id, expected=["active"], status="expired")
    assert len((await traced(store, move))[0]) == 1
    statements, _ = await traced(store, store.resources.upsert_installation(installation()))
    assert len(statements) == 1


async def test_granting_beginning_and_leasing_is_one_statement_each(store: SqliteStore) -> None:
    for call in (
        store.budgets.take(REST, 1, limit=2, window=60),
        store.budgets.take(REST, 1, limit=2, window=60),
        store.budgets.correct(REST, remaining=1, limit=2, reset_in=60),
        store.budgets.lease([OF_A_DAY]),
        store.budgets.lease([OF_A_DAY], sharer=A),
        store.budgets.pause([OF_A_DAY.key], seconds=60),
        store.once.begin("command", "k", digest=b"d", owner="a", seconds=30),
        store.once.extend("command", "k", owner="a", fence=1, seconds=30),
        store.once.finish("command", "k", owner="a", fence=1, ok=True),
        store.once.begin_dispatch(dispatch(), owner="a", seconds=30),
        store.leases.acquire("door", owner="a", seconds=30),
    ):
        statements, _ = await traced(store, call)
        assert len(statements) == 1


async def test_settling_a_batch_of_the_outbox_is_one_statement_whatever_its_size(store: SqliteStore) -> None:
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    await emit(store, *(event() for _ in range(30)))
    claims = await take(store, "a", "b")
    assert len(claims) == 60
    for batch in (claims[:1], claims[1:]):
        statements, _ = await traced(store, store.queues.settle_many(batch, "done"))
        assert len(statements) == 1
