"""Sealed values in a file: pages of bounded size, read aside; what is replaced, and in how many statements."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from go_services_core.errors import Conflict, StoreUnavailable
from go_services_core.model import Sealed
from go_services_core.testing.checks.store import KEY, established
from go_services_core.testing.checks.store_queues import delivery
from go_services_core.testing.checks.store_resources import subscription
from go_services_core.testing.checks.store_sealed import KINDS, counted, listed, one_of_each, other
from go_services_store_sql.sealed import PAGE_BYTES
from go_services_store_sqlite.store import SqliteStore


def query(path: Path, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


async def test_page_ends_before_it_has_too_many_bytes(store: SqliteStore) -> None:
    third = PAGE_BYTES // 3
    for name, size in enumerate((third, third, third, third, PAGE_BYTES + 1, 1, 1)):
        await store.queues.accept(delivery(f"d{name}", id=f"id-{name}", sealed=Sealed(b"x" * size, KEY)))
    pages, after = [], None
    while True:
        page = await store.sealed.page("inbox", after=after)
        pages.append([row.id for row in page.items])
        if (after := page.next) is None:
            break
    assert pages == [["id-0", "id-1", "id-2"], ["id-3"], ["id-4"], ["id-5", "id-6"]]


async def test_tables_are_gone_through_apart_from_the_callers_thread_and_the_writer(store: SqliteStore) -> None:
    await one_of_each(store)
    threads: set[str] = set()
    store.trace(lambda text: threads.add(threading.current_thread().name))
    await store.sealed.keys()
    for kind in KINDS:
        await store.sealed.page(kind)
    store.trace(None)
    assert threads
    assert not threads & {threading.main_thread().name, "go-services-sqlite"}
    await store.aclose()
    with pytest.raises(StoreUnavailable):
        await store.sealed.keys()


async def test_many_values_are_replaced_in_one_statement_and_one_commit(store: SqliteStore) -> None:
    for _ in range(20):
        await one_of_each(store)
    for kind in KINDS:
        rows = await listed(store, kind)
        seen: list[str] = []
        store.trace(seen.append)
        assert list(await store.sealed.replace([other(row) for row in rows])) == []
        store.trace(None)
        assert [text.split()[0] for text in seen if not text.startswith("PRAGMA")] == ["BEGIN", "UPDATE", "COMMIT"]


async def test_no_column_changes_but_the_ciphertext_and_its_key(store: SqliteStore, path: Path) -> None:
    made = await one_of_each(store)
    tables = {
        "credential": ("service_credentials", "encrypted_payload"),
        "attempt": ("service_oauth_attempts", "payload"),
        "inbox": ("service_webhook_deliveries", "payload"),
        "idempotency": ("service_idempotency", "result"),
        "subscription": ("service_subscriptions", "verification_token"),
        "intent": ("service_refresh_intents", "payload"),
        "endpoint": ("service_webhook_endpoints", "secrets"),
    }

    def columns(table: str) -> dict[str, Any]:
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            (row,) = connection.execute(f"SELECT * FROM {table}").fetchall()
            return dict(row)

    for kind in KINDS:
        table, payload = tables[kind]
        before = columns(table)
        value = other(made[kind])
        await store.sealed.replace([value])
        after = columns(table)
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {payload, "encryption_key_id", "encryption_version"}
        assert after[payload] == value.sealed.ciphertext


async def test_marking_is_one_statement_and_two_where_nothing_changes(store: SqliteStore) -> None:
    made = await established(store)
    for expected in (1, 2):
        seen: list[str] = []
        store.trace(seen.append)
        await store.sealed.mark(made.id, "unreadable", error="kit")
        store.trace(None)
        assert len([text for text in seen if text.startswith(("UPDATE", "SELECT"))]) == expected


async def test_migration_with_late_tokens_is_not_undone_unless_forced(store: SqliteStore, path: Path) -> None:
    await one_of_each(store)
    await store.aclose()
    while (await store.admin.down(force=True)).number > 5:
        pass
    with pytest.raises(Conflict, match="1 of service_refresh_intents"):
        await store.admin.down()
    assert query(path, "SELECT count(*) FROM service_refresh_intents WHERE payload IS NOT NULL") == [(1,)]
    assert (await store.admin.down(force=True)).number == 4
    await store.migrate()
    await store.open()
    assert await listed(store, "intent") == []


async def test_migration_with_verification_tokens_is_not_undone_unless_forced(store: SqliteStore, path: Path) -> None:
    made = await established(store)
    token = subscription(made.id, "token", verification=Sealed(b"token", KEY))
    for wanted in (token, subscription(made.id, "plain")):
        await store.resources.save_subscription(wanted, expected_version=None)
    await store.aclose()
    while (await store.admin.down()).number > 4:
        pass
    with pytest.raises(Conflict, match="1 of service_subscriptions"):
        await store.admin.down()
    assert query(path, "SELECT count(*) FROM service_subscriptions WHERE verification_token IS NOT NULL") == [(1,)]
    assert (await store.admin.down(force=True)).number == 3
    await store.migrate()
    await store.open()
    (kept,) = (await store.resources.subscriptions()).items
    assert (kept.channel_id, kept.verification) == ("plain", None)
    assert await counted(store) == {("credential", KEY): 1}
    assert await store.resources.save_subscription(evolve(token), expected_version=None) == token
