"""The SQLite store beside what one would write without it, on the same table, the same row and the same durability.

The row is an inbox delivery with 1 KiB of ciphertext. Every side writes it to a file of its own that our migrations
made, in WAL mode with ``synchronous=FULL``, and answers each caller after the commit. Peers: ``sqlite3`` in
``asyncio.to_thread``, a connection for each thread and a commit for each call; peewee's own async database
(``playhouse.pwasyncio``) with its pool, one ``async with`` for each call as its documentation shows.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import peewee

from go_services_core.clock import SystemClock, uuid7
from go_services_core.model import InboxDelivery, KeyRef, Scope, Sealed
from go_services_store_sql import inbox
from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.models import InboxRow
from go_services_store_sqlite.store import SqliteStore

from .harness import Result, alternate_async, ratio

CALLS = {1: 300, 64: 8000}
CALLS_PEER = {1: 300, 64: 2000}
CALLS_PEEWEE = {64: 800}
PAIRS_OF = {1: 25, 64: 7}
"""Many short turns where the sides are close: what the machine does beside hits both alike."""
PEEWEE_POOL = 10

Accept: TypeAlias = Callable[[InboxDelivery], Awaitable[Any]]

_clock = SystemClock()
_numbers = itertools.count()


def delivery() -> InboxDelivery:
    """A verified delivery with 1 KiB of ciphertext that no side has seen."""
    return InboxDelivery(
        id=uuid7(_clock),
        provider_id="bench",
        connection_id=None,
        scope=Scope("user", "u1"),
        delivery_id=f"delivery-{next(_numbers)}",
        event="issue.opened",
        digest=hashlib.sha256(b"body").digest(),
        sealed=Sealed(os.urandom(1024), KeyRef("appkey", "key-1", 1)),
        received_at=datetime.now(UTC),
    )


def row_of(given: InboxDelivery) -> Mapping[str, Any]:
    """The columns of a new delivery, as our own insert has them, all but ``next_attempt_at``."""
    return next(inbox.accept(given, None)).values


async def rate(accept: Accept, calls: int, concurrency: int) -> float:
    """Deliveries a second; they are made before the time is taken."""
    deliveries = iter([delivery() for _ in range(calls)])

    async def writer() -> None:
        for given in deliveries:
            await accept(given)

    began = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(concurrency)))
    return calls / (time.perf_counter() - began)


@contextmanager
def _migrated() -> Iterator[Path]:
    """A file with our schema and nothing in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        asyncio.run(SqliteStore(path).migrate())
        yield path


@asynccontextmanager
async def _ours(path: Path) -> AsyncIterator[Accept]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield store.queues.accept
    finally:
        await store.aclose()


@asynccontextmanager
async def _threads(path: Path) -> AsyncIterator[Accept]:
    compiled = inbox.INSERT_DELIVERY.compiled(SQLITE)
    local = threading.local()
    opened: list[sqlite3.Connection] = []

    def insert(given: InboxDelivery) -> bool:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=30
            )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            opened.append(connection)
        return bool(connection.execute(compiled.text, compiled.bind(row_of(given))).fetchall())

    async def accept(given: InboxDelivery) -> bool:
        return await asyncio.to_thread(insert, given)

    try:
        yield accept
    finally:
        for connection in opened:
            connection.close()


def _encoded(value: Any) -> Any:
    encode = SQLITE.encoders.get(type(value))
    return value if encode is None else encode(value)


@asynccontextmanager
async def _peewee(path: Path) -> AsyncIterator[Accept]:
    from playhouse.pwasyncio import AsyncSqliteDatabase

    pragmas = {"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1}
    database = AsyncSqliteDatabase(str(path), pool_size=PEEWEE_POOL, acquire_timeout=60, timeout=30, pragmas=pragmas)
    now = peewee.SQL(SQLITE.now)

    async def accept(given: InboxDelivery) -> bool:
        row = {name: _encoded(value) for name, value in row_of(given).items()}
        query = InboxRow.insert({**row, "next_attempt_at": now}).on_conflict_ignore().returning(InboxRow.id)
        async with database:
            return bool(list(await database.aexecute(query)))

    try:
        yield accept
    finally:
        await database.close_pool()


async def _measure(concurrency: int, paths: Sequence[Path]) -> list[list[float]]:
    sides = (_ours, _threads, _peewee)[: len(paths)]
    counts = (CALLS, CALLS_PEER, CALLS_PEEWEE)
    async with AsyncExitStack() as stack:
        accepts = [await stack.enter_async_context(side(path)) for side, path in zip(sides, paths, strict=True)]
        for accept in accepts:
            assert await accept(delivery())
            await rate(accept, 200, concurrency)
        return await alternate_async(
            *(
                lambda accept=accept, calls=count[concurrency]: rate(accept, calls, concurrency)
                for accept, count in zip(accepts, counts, strict=False)
            ),
            pairs=PAIRS_OF[concurrency],
        )


def _compare(name: str, ours: list[float], peer: list[float], peer_name: str, target: float) -> Result:
    return ratio(
        name,
        better="higher",
        unit="rows/s",
        samples=ours,
        peer_samples=peer,
        peer_name=peer_name,
        target=target,
    )


def accept_64() -> list[Result]:
    """64 concurrent callers, each waiting for the acknowledgement of its own delivery."""
    with _migrated() as first, _migrated() as second, _migrated() as third:
        ours, threads, peewee_async = asyncio.run(_measure(64, [first, second, third]))
    return [
        _compare("sqlite-accept-64-threads", ours, threads, "sqlite3 in threads, WAL FULL, 1 KiB", 6.0),
        _compare("sqlite-accept-64-peewee", ours, peewee_async, "peewee async, WAL FULL, 1 KiB", 8.0),
    ]


def accept_1() -> list[Result]:
    """One caller: grouping commits must not cost where there is nothing to group."""
    with _migrated() as first, _migrated() as second:
        ours, threads = asyncio.run(_measure(1, [first, second]))
    return [_compare("sqlite-accept-1", ours, threads, "sqlite3 in a thread, WAL FULL, 1 KiB", 0.9)]


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "sqlite-accept-64": accept_64,
    "sqlite-accept-1": accept_1,
}
