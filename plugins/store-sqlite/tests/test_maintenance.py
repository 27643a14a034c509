"""The files stay small: the log under load and beside readers, and the database when rows come and go."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from go_services_core.model import InboxDelivery, Sealed
from go_services_core.testing.checks.store import KEY
from go_services_core.testing.checks.store_queues import delivery, items, take
from go_services_store_sql.statement import Row, Statement
from go_services_store_sqlite import writer
from go_services_store_sqlite.store import SqliteStore

LIMIT = 2 * 2**20
SIZE = 100_000
SLACK = 1 * 2**20
"""One commit may go over the limit before the log is cut."""


def large(name: str) -> InboxDelivery:
    return delivery(name, sealed=Sealed(os.urandom(SIZE), KEY))


async def load(store: SqliteStore, prefix: str, rows: int = 60) -> None:
    """Write 6 MB, one commit after the other."""
    for number in range(rows):
        await store.queues.accept(large(f"{prefix}-{number}"))


def size(path: Path) -> int:
    return path.stat().st_size


def log_size(path: Path) -> int:
    return size(path.with_name(path.name + "-wal"))


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LOG_LIMIT", LIMIT)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Another program that looks at one state of the database."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM service_webhook_deliveries").fetchone()
        yield
        other.execute("COMMIT")


async def shrunk(path: Path) -> None:
    async with asyncio.timeout(30):
        while log_size(path) > 0:
            await asyncio.sleep(0.05)


async def test_log_stays_small_under_steady_load(path: Path, store: SqliteStore, small_limit: None) -> None:
    largest = 0
    for number in range(80):
        await store.queues.accept(large(f"d{number}"))
        largest = max(largest, log_size(path))
    assert SIZE < largest < LIMIT + SLACK


async def test_log_of_small_changes_is_copied_before_it_reaches_the_limit(path: Path, store: SqliteStore) -> None:
    for number in range(3 * writer.CHECKPOINT_UNITS):
        await store.once.claim(f"key-{number}", ttl=60)
    await store.once.claim("after the last checkpoint", ttl=60)
    assert log_size(path) < writer.LOG_LIMIT
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as without_log:
        (found,) = without_log.execute("SELECT count(*) FROM service_replay_ledger").fetchone()
    assert found == 3 * writer.CHECKPOINT_UNITS


async def test_slow_reader_stops_neither_writers_nor_the_log_from_shrinking_after_it(
    path: Path, store: SqliteStore, small_limit: None
) -> None:
    with reading(path):
        await load(store, "while")
        assert log_size(path) > LIMIT + SLACK  # the reader's state must stay readable
    await shrunk(path)  # without another change
    await load(store, "after")
    assert log_size(path) < LIMIT + SLACK
    assert len(await items(store, "inbox", "pending")) == 100  # a page of them


async def test_readers_that_follow_each_other_without_a_gap_do_not_let_the_log_grow(
    path: Path, store: SqliteStore, small_limit: None
) -> None:
    over = threading.Event()

    def read(first: threading.Event, second: threading.Event) -> None:
        """Each of two readers begins before the other one ends."""
        while not over.is_set():
            first.wait(5)
            first.clear()
            with reading(path):
                second.set()
                over.wait(0.01)

    events = threading.Event(), threading.Event()
    readers = [threading.Thread(target=read, args=events), threading.Thread(target=read, args=events[::-1])]
    for reader in readers:
        reader.start()
    events[0].set()
    try:
        for round_ in range(4):
            await load(store, f"r{round_}")
        async with asyncio.timeout(30):
            while log_size(path) > LIMIT + SLACK:
                await asyncio.sleep(0.05)
    finally:
        over.set()
        for event in events:
            event.set()
        for reader in readers:
            reader.join(10)


async def test_space_of_removed_rows_is_used_again(path: Path, store: SqliteStore) -> None:
    sizes = []
    for round_ in range(4):
        await load(store, f"r{round_}", rows=20)
        for claim in await take(store):
            await store.queues.settle(claim, "done")
        await asyncio.sleep(0.01)  # SQLite's clock has milliseconds
        assert await store.prune({"service_webhook_deliveries": 0.0}) == {"service_webhook_deliveries": 20}
        await store.aclose()
        sizes.append(size(path))
        await store.open()
    assert max(sizes) < sizes[0] + 2 * SIZE


async def test_checkpoints_are_the_writers_alone(store: SqliteStore) -> None:
    statement: Statement[Row] = Statement("PRAGMA wal_autocheckpoint")
    assert await store._driver.run(statement) == [(0,)]
