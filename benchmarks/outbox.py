"""The outbox on PostgreSQL beside a loop by hand, PgQueuer and Procrastinate, on one server in the same run; and on
SQLite by itself.

All are durable: ``fsync`` and ``synchronous_commit`` are on, and PgQueuer's tables are logged. A row has 1 KiB of
payload. Ours hands an event to its handler, claims it, and settles delivery and event; the loop by hand claims and
settles a delivery that is handed out already. The inbox is driven as by the worker: it claims deliveries and commits
their ends with an event for each. PgQueuer is driven as by its own worker, in batches as large as ours
(https://pgqueuer.readthedocs.io: ``dequeue`` and the buffered ``log_jobs``); Procrastinate by its fetch and finish.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from psycopg import AsyncConnection

from go_services_core.clock import SystemClock
from go_services_core.protocols import Store
from go_services_core.runtime.inbox import event_of
from go_services_core.testing.postgres import PostgresServer
from go_services_store_sqlite.store import SqliteStore

from .harness import Result, alternate_async, plain, ratio
from .store_postgres import Database, _procrastinate, database, on_server

BATCH: Final = 100
ITEMS: Final = 3000
PAIRS: Final = 7
LONG: Final = int(os.environ.get("GO_SERVICES_BENCH_DEPTH", "1000000"))
END: Final = 10_000
TURN: Final = 1000

FILL = """
INSERT INTO service_lifecycle_outbox (id, event_id, event_name, provider_id, scope_type, scope_id, payload, status,
  occurred_at, created_at, updated_at)
SELECT id, id, 'bench.happened', 'bench', 'org', '-', jsonb_build_object('text', %(text)s::text), 'committed',
  now(), now(), now()
FROM generate_series(1, %(rows)s) AS n,
  LATERAL (SELECT '01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0')) AS k (id)
"""
PENDING = "INSERT INTO service_pending_events (event_id) SELECT event_id FROM service_lifecycle_outbox"
FILL_BY_HAND = """
INSERT INTO service_event_deliveries (event_id, handler, status, next_attempt_at, updated_at)
SELECT event_id, 'bench', 'pending', now(), now() FROM service_lifecycle_outbox
"""
CLAIM_BY_HAND = """
WITH due AS (
  SELECT event_id, handler FROM service_event_deliveries
  WHERE status IN ('pending', 'retry_ready', 'processing') AND next_attempt_at <= now()
  ORDER BY next_attempt_at, event_id LIMIT %s FOR UPDATE SKIP LOCKED),
taken AS (
  UPDATE service_event_deliveries AS d SET status = 'processing', owner = 'bench', fence = fence + 1,
    attempts = attempts + 1, next_attempt_at = now() + interval '60 seconds', updated_at = now()
  FROM due WHERE d.event_id = due.event_id AND d.handler = due.handler RETURNING d.event_id, d.handler, d.fence)
SELECT taken.*, e.event_name, e.payload FROM taken JOIN service_lifecycle_outbox AS e USING (event_id)
"""
SETTLE_BY_HAND = """
UPDATE service_event_deliveries AS d SET status = 'delivered', owner = NULL, next_attempt_at = NULL, updated_at = now()
FROM unnest(%s::text[], %s::integer[]) AS held (id, fence)
WHERE d.event_id = held.id AND d.handler = 'bench' AND d.fence = held.fence AND d.owner = 'bench'
  AND d.status = 'processing' RETURNING d.event_id
"""
FILL_SQLITE = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)
INSERT INTO service_lifecycle_outbox (id, event_id, event_name, provider_id, scope_type, scope_id, payload, status,
  occurred_at, created_at, updated_at)
SELECT printf('01900000-0000-7000-8000-%012x', n), printf('01900000-0000-7000-8000-%012x', n), 'bench.happened',
  'bench', 'org', '-', json_object('text', :text), 'committed', :now, :now, :now
FROM numbers
"""


async def _take(store: Store) -> int:
    claims = await store.queues.claim("outbox", owner="bench", lease=60, limit=BATCH, handlers=["bench"])
    assert await store.queues.settle_many(claims, "done") == []
    return len(claims)


async def _pass_on(store: Store) -> int:
    claims = await store.queues.claim("inbox", owner="bench", lease=60, limit=BATCH)
    pairs = [(claim, event_of(claim.delivery)) for claim in claims if claim.delivery is not None]
    assert not pairs or await store.queues.pass_on(pairs) == []
    return len(claims)


async def _rate(take: Callable[[], Awaitable[int]], rows: int) -> float:
    """Items a second until so many are done."""
    done = 0
    began = time.perf_counter()
    while done < rows and (count := await take()):
        done += count
    assert done >= rows, done
    return done / (time.perf_counter() - began)


async def _fill(here: Database, rows: int, *, by_hand: bool = False, size: int = 1024) -> None:
    await here.store.queues.register_handlers({"bench": "*"}, now=SystemClock().now() - timedelta(days=1))
    await here.raw.execute("TRUNCATE service_event_deliveries, service_lifecycle_outbox, service_pending_events")
    await here.raw.execute(FILL, {"rows": rows, "text": os.urandom(size // 2).hex()})
    await here.raw.execute(FILL_BY_HAND if by_hand else PENDING)
    # Not the empty one: what PostgreSQL then plans and keeps reads it as a whole when it has grown. No running system
    # has it so, which keeps its history; PgQueuer's log is not analysed empty either.
    for table in ("service_lifecycle_outbox", "service_event_deliveries" if by_hand else "service_pending_events"):
        await here.raw.execute(f"VACUUM ANALYZE {table}".encode())


@asynccontextmanager
async def _pgqueuer(url: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Measures jobs a second through PgQueuer's own dequeue and log, in batches."""
    import uuid

    from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
    from pgqueuer.adapters.persistence.queries import Queries
    from pgqueuer.ports.repository import EntrypointExecutionParameter

    async with await AsyncConnection.connect(url, autocommit=True) as connection, PsycopgDriver(connection) as driver:
        queries = Queries(driver)
        await queries.install()
        number: Any = uuid.uuid4()
        entrypoints: Any = {"bench": EntrypointExecutionParameter(concurrency_limit=0)}
        payload = os.urandom(1024)

        async def take() -> int:
            jobs = await queries.dequeue(BATCH, entrypoints, number, None, timedelta(seconds=60))
            if jobs:
                await queries.log_jobs([(job, "successful", None) for job in jobs])
            return len(jobs)

        async def drained() -> float:
            async with await AsyncConnection.connect(url, autocommit=True) as raw:
                await raw.execute("TRUNCATE pgqueuer, pgqueuer_log")
                await queries.enqueue(["bench"] * ITEMS, [payload] * ITEMS, [0] * ITEMS)
                await raw.execute("VACUUM ANALYZE pgqueuer")
            return await _rate(take, ITEMS)

        yield drained


async def drain(server: PostgresServer) -> list[Result]:
    """Claim 100, settle 100, until the outbox is empty; one worker a side."""
    async with database(server) as here, _pgqueuer(here.url) as pgqueuer, _procrastinate(here.url) as procrastinate:

        async def ours() -> float:
            await _fill(here, ITEMS)
            return await _rate(lambda: _take(here.store), ITEMS)

        async def take_by_hand() -> int:
            rows = await (await here.raw.execute(CLAIM_BY_HAND, (BATCH,))).fetchall()
            if rows:
                held = [row[0] for row in rows], [row[2] for row in rows]
                assert len(await (await here.raw.execute(SETTLE_BY_HAND, held)).fetchall()) == len(rows)
            return len(rows)

        async def by_hand() -> float:
            await _fill(here, ITEMS, by_hand=True)
            return await _rate(take_by_hand, ITEMS)

        async def inbox() -> float:
            await here.raw.execute(
                "TRUNCATE service_event_deliveries, service_lifecycle_outbox, service_pending_events"
            )
            await here.fill(ITEMS)
            return await _rate(lambda: _pass_on(here.store), ITEMS)

        await ours()
        await inbox()
        mine, hand, peer, slow, passed = await alternate_async(
            ours, by_hand, pgqueuer, procrastinate, inbox, pairs=PAIRS
        )
    return [
        ratio(
            f"pg-{name}",
            better="higher",
            unit="items/s",
            samples=taken,
            peer_samples=samples,
            peer_name=f"{peer_name}, durable, 1 KiB",
            target=target,
        )
        for name, taken, samples, peer_name, target in (
            ("outbox-hand", mine, hand, "psycopg by hand, batch 100", 0.6),
            ("outbox-pgqueuer", mine, peer, "PgQueuer, batch 100", 1.0),
            ("outbox-procrastinate", mine, slow, "Procrastinate, one worker", 20.0),
            ("inbox-pgqueuer", passed, peer, "PgQueuer, batch 100", 0.6),
            ("inbox-procrastinate", passed, slow, "Procrastinate, one worker", 20.0),
        )
    ]


async def _ends(first: Store, last: Store) -> tuple[list[float], list[float]]:
    """The rates of the first rows of a long backlog, and of the last ones.

    They are measured in turn, each in a database of its own: what else uses the disk within minutes slows both alike.
    """
    await _rate(partial(_take, last), LONG - END)
    begun, ended = await alternate_async(
        lambda: _rate(partial(_take, first), TURN), lambda: _rate(partial(_take, last), TURN), pairs=END // TURN
    )
    return begun, ended


async def depth(server: PostgresServer) -> list[Result]:
    """Of a backlog the last rows go as fast as the first."""
    async with database(server) as here, database(server) as there:
        await _fill(here, LONG, size=64)
        await _fill(there, LONG, size=64)
        first, last = await _ends(here.store, there.store)
    return [_depth("pg-outbox-depth", first, last)]


def _depth(name: str, first: list[float], last: list[float]) -> Result:
    return ratio(
        name,
        better="higher",
        unit="items/s",
        samples=last,
        peer_samples=first,
        peer_name=f"the first {END:,} of {LONG:,}",
        target=0.8,
    )


@asynccontextmanager
async def _sqlite(rows: int) -> AsyncIterator[tuple[Path, SqliteStore]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.db"
        store = SqliteStore(path)
        await store.migrate()
        now = "2026-01-01 00:00:00.000000"
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute(FILL_SQLITE, {"rows": rows, "text": os.urandom(32).hex(), "now": now})
        await store.open()
        try:
            await store.queues.register_handlers({"bench": "*"}, now=SystemClock().now() - timedelta(days=3650))
            yield path, store
        finally:
            await store.aclose()


def sqlite_drain() -> list[Result]:
    """No-op events a second on SQLite, ``synchronous=FULL``: hand out, claim and settle."""

    async def measure() -> list[float]:
        rates = []
        for _ in range(PAIRS):
            async with _sqlite(END) as (_, store):
                rates.append(await _rate(partial(_take, store), END))
        return rates

    rates = asyncio.run(measure())
    return [plain("sqlite-outbox", unit="items/s", samples=rates, target=5000.0, better="higher")]


def sqlite_depth() -> list[Result]:
    """As on PostgreSQL."""

    async def measure() -> tuple[list[float], list[float]]:
        async with _sqlite(LONG) as (_, fresh), _sqlite(LONG) as (_, worn):
            return await _ends(fresh, worn)

    return [_depth("sqlite-outbox-depth", *asyncio.run(measure()))]


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "pg-outbox": on_server("pg-outbox", drain),
    "pg-outbox-depth": on_server("pg-outbox-depth", depth),
    "sqlite-outbox": sqlite_drain,
    "sqlite-outbox-depth": sqlite_depth,
}
