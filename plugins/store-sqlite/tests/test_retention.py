"""Retention on a file: short commits, writers in between, nothing left of what was destroyed."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from go_services_core.model import Scope, Sealed
from go_services_core.resources import HISTORY
from go_services_core.testing.checks.store import KEY, change, credential, now
from go_services_core.testing.checks.store_budgets import entry
from go_services_core.testing.checks.store_queues import delivery
from go_services_store_sql.activity import COUNT_OVER, SCOPES, TRIM
from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.retention import TABLES
from go_services_store_sql.schema import ddl
from go_services_store_sqlite.store import SqliteStore

LOG = "service_activity_entries"


async def test_each_commit_removes_a_batch_at_most(store: SqliteStore) -> None:
    await store.log.record([entry(created_at=now() - timedelta(days=2)) for _ in range(25)])
    await store.log.record([entry() for _ in range(5)])
    seen: list[str] = []
    store.trace(seen.append)
    assert await store.prune({LOG: 86_400.0}, batch=10) == {LOG: 25}
    store.trace(None)
    assert seen.count("COMMIT") == 4  # three batches, and the look that finds no more rows
    assert len((await store.log.activity()).items) == 5


async def test_counting_begins_no_transaction(store: SqliteStore) -> None:
    await store.log.record([entry(created_at=now() - timedelta(days=2)) for _ in range(25)])
    seen: list[str] = []
    store.trace(seen.append)
    assert await store.prune({LOG: 86_400.0}, batch=10, dry_run=True) == {LOG: 25}
    store.trace(None)
    assert [text for text in seen if not text.startswith("SELECT")] == []


async def test_writers_come_between_the_batches(store: SqliteStore) -> None:
    await store.log.record([entry(created_at=now() - timedelta(days=2)) for _ in range(200)])
    order: list[str] = []

    async def prune() -> None:
        await store.prune({LOG: 0.0}, batch=1)
        order.append("pruned")

    async def write() -> None:
        for number in range(20):
            await store.queues.accept(delivery(f"d{number}"))
        order.append("written")

    await asyncio.gather(prune(), write())
    assert order == ["written", "pruned"]


async def test_superseded_ciphertexts_are_in_no_file_after_pruning(path: Path, store: SqliteStore) -> None:
    superseded, active = b"superseded secret " * 400, b"active secret " * 20

    def found() -> list[bool]:
        files = [file.read_bytes() for file in path.parent.iterdir()]
        return [any(secret[:20] in content for content in files) for secret in (superseded, active)]

    first = change()
    first = evolve(first, credential=evolve(first.credential, sealed=Sealed(superseded, KEY)))
    made, _ = await store.connections.establish(first)
    second = credential(made.id, 2, sealed=Sealed(active, KEY))
    await store.connections.establish(evolve(change(), credential=second))
    assert found() == [True, True]
    await asyncio.sleep(0.01)
    assert await store.prune({"service_credentials": 0.0}) == {"service_credentials": 1}
    assert found() == [False, True]
    assert (await store.connections.load(made.id))[1] == second


async def test_newest_grant_event_of_each_connection_stays(path: Path, store: SqliteStore) -> None:
    for account in ("account-1", "account-2"):
        made, _ = await store.connections.establish(change(account))
        for version, granted in ((2, ("write",)), (3, ("read", "write"))):
            new = credential(made.id, version, granted=granted)
            await store.connections.establish(evolve(change(account), credential=new))
    await asyncio.sleep(0.01)
    tables = ("service_grant_events", "service_grant_snapshots")
    assert await store.prune(dict.fromkeys(tables, 0.0)) == dict.fromkeys(tables, 4)
    reader = sqlite3.connect(path)
    left = reader.execute("SELECT added_grants FROM service_grant_events").fetchall()
    reader.close()
    assert left == [('["read"]',)] * 2


@pytest.mark.parametrize("table", HISTORY)
async def test_steps_go_by_the_primary_key(store: SqliteStore, table: str) -> None:
    connection = sqlite3.connect(store._path)
    for statement in (TABLES[table].last, TABLES[table].count):
        compiled = statement.compiled(SQLITE)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
        assert f"sqlite_autoindex_{table}_1" in " ".join(line[-1] for line in plan)
    connection.close()


async def test_row_cap_is_kept_to_by_statements_that_read_a_page_each(store: SqliteStore) -> None:
    """Whatever the number of scopes, and of entries in one of them, nothing goes through the table at once."""
    for number in range(30):
        scope = Scope("user", f"u{number:02}")
        many = 60 if number == 7 else 3
        await store.log.record([entry(scope=scope, created_at=now() + timedelta(seconds=n)) for n in range(many)])
    seen: list[str] = []
    store.trace(seen.append)
    after: str | None = ""
    removed: list[int] = []
    while after is not None:
        count, after = await store.log.trim(rows=5, limit=20, after=after)
        removed.append(count)
    store.trace(None)
    assert (sum(removed), max(removed)) == (55, 20)
    looks = [text for text in seen if text.startswith("SELECT")]
    assert len([text for text in seen if text.startswith("DELETE")]) == 3  # of the one scope that has too many
    assert len(looks) == len(removed) <= 12  # about 147 entries, 20 at a time, and what was cut off anew
    assert len((await store.log.activity(limit=1000)).items) == 147 - 55
    with sqlite3.connect(":memory:") as database:
        for text in ddl(SQLITE):
            database.execute(text)
        for statement in (SCOPES, TRIM, COUNT_OVER):
            compiled = statement.compiled(SQLITE)
            lines = database.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
            plan = "\n".join(line[-1] for line in lines)
            assert "SCAN service_activity_entries" not in plan
            assert "USING COVERING INDEX ix_service_activity_entries_scope" in plan
    database.close()
