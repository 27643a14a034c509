"""How long a claim takes when the queue is long: the median of many claims of ten, by the number of rows that are due.

Beside the rows that are due stand as many that are done. The depths are measured in turn, each in a database of its
own; the target compares the longest queue with one of a thousand. ``GO_SERVICES_BENCH_DEPTH`` sets the longest, which
is a million unless it says otherwise; building that takes about a minute for each store.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path

from go_services_core.protocols import Store
from go_services_core.testing.postgres import PostgresServer
from go_services_store_sqlite.store import SqliteStore

from .harness import Result, alternate_async, ratio
from .store_postgres import database, on_server

SHORT = 1000
LONG = int(os.environ.get("GO_SERVICES_BENCH_DEPTH", "1000000"))
DEPTHS = [depth for depth in (SHORT, 10_000, 100_000) if depth < LONG] + [LONG]
LIMIT = 10
TURNS = 15
CLAIMS = 5
"""Claims in a turn; the first ones after a change of database wake its processes and caches."""
SIZE = 64
"""Bytes of ciphertext: short, so that the building takes a minute and not ten."""

FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)
INSERT INTO service_webhook_deliveries (id, provider_id, delivery_id, event, digest, payload, encryption_backend,
  encryption_key_id, status, next_attempt_at, received_at, created_at, updated_at)
SELECT printf('01900000-0000-7000-%s-%012x', CASE WHEN :due THEN '8000' ELSE '9000' END, n), 'bench',
  CASE WHEN :due THEN 'delivery-' ELSE 'done-' END || n, 'issue.opened', x'00', :payload, 'appkey', 'key-1',
  CASE WHEN :due THEN 'pending' ELSE 'processed' END,
  CASE WHEN :due THEN printf('2026-01-01 00:00:%02d.%06d', n / 1000000, n % 1000000) END,
  '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000'
FROM numbers
"""


def _fill(path: Path, rows: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        for due in (True, False):
            connection.execute(FILL, {"rows": rows, "due": due, "payload": os.urandom(SIZE)})
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with path.open("rb") as file:
        os.fsync(file.fileno())


async def _claim(store: Store) -> float:
    """Milliseconds for a claim: the median of a turn."""
    times = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        claims = await store.queues.claim("inbox", owner="bench", lease=3600, limit=LIMIT)
        times.append((time.perf_counter() - began) * 1000)
        assert len(claims) == LIMIT
    return statistics.median(times)


async def _curve(name: str, stores: Mapping[int, Store]) -> list[Result]:
    for store in stores.values():
        await _claim(store)
    samples = dict(
        zip(
            stores,
            await alternate_async(
                *(lambda store=store: _claim(store) for store in stores.values()),
                pairs=TURNS,
            ),
            strict=True,
        )
    )
    for depth, times in samples.items():
        print(f"{name}: {depth:>9,} due {statistics.median(times):8.2f} ms", file=sys.stderr)
    return [
        ratio(
            name,
            better="lower",
            unit="ms",
            samples=samples[LONG],
            peer_samples=samples[SHORT],
            peer_name=f"{LONG:,} due and done over {SHORT:,}, claims of {LIMIT}",
            target=1.5,
        )
    ]


async def _sqlite() -> list[Result]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stores: dict[int, Store] = {}
        for depth in DEPTHS:
            store = SqliteStore(Path(folder) / f"{depth}.db")
            await store.migrate()
            _fill(Path(folder) / f"{depth}.db", depth)
            await store.open()
            stack.push_async_callback(store.aclose)
            stores[depth] = store
        return await _curve("claim-depth-sqlite", stores)


async def _postgres(server: PostgresServer) -> list[Result]:
    async with AsyncExitStack() as stack:
        stores: dict[int, Store] = {}
        for depth in DEPTHS:
            here = await stack.enter_async_context(database(server))
            await here.fill(depth, done=depth, size=SIZE)
            stores[depth] = here.store
        return await _curve("claim-depth-postgres", stores)


def claim_depth() -> list[Result]:
    """Both stores."""
    on_postgres: Callable[[], Sequence[Result]] = on_server("claim-depth-postgres", _postgres)
    return [*asyncio.run(_sqlite()), *on_postgres()]


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {"claim-depth": claim_depth}
