"""A server that crashes under load and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from go_services_core.errors import CommitUnknown, StoreUnavailable
from go_services_core.testing.checks.store import change
from go_services_core.testing.checks.store_queues import delivery
from go_services_core.testing.postgres import LocalServer, postgres_server
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


@pytest.fixture
def own(server: object) -> Iterator[LocalServer]:
    """A server that only this test uses; asking for the session's skips where none can run."""
    with postgres_server() as running:
        if running.own is None:
            pytest.skip("the server of the environment is not ours to stop")
        yield running.own


@pytest.fixture
async def store(own: LocalServer) -> AsyncIterator[PostgresStore]:
    made = PostgresStore(PostgresSettings(url=own.url, pool_timeout=20.0))
    await made.migrate()
    await made.open()
    yield made
    await made.aclose()


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_crash_under_load_loses_nothing_that_was_acknowledged(
    own: LocalServer, store: PostgresStore, chaos: Any
) -> None:
    deliveries: set[str] = set()
    connections: set[str] = set()
    unknown = 0
    stopping = False

    async def accepting(name: str) -> None:
        nonlocal unknown
        number = 0
        while not stopping:
            number += 1
            one = delivery(f"{name}-{number}")
            try:
                answer = await store.queues.accept(one)
            except CommitUnknown:
                unknown += 1
            except StoreUnavailable:
                pass
            else:
                assert not answer.duplicate  # a unit that was acknowledged is not run a second time
                deliveries.add(one.id)

    async def establishing(name: str) -> None:
        nonlocal unknown
        number = 0
        while not stopping:
            number += 1
            wanted = change(f"{name}-{number}")
            try:
                _, version = await store.connections.establish(wanted)
            except CommitUnknown:
                unknown += 1
            except StoreUnavailable:
                pass
            else:
                assert version == 1
                connections.add(wanted.connection.id)

    async def progress(more: int) -> None:
        goal = len(deliveries) + more, len(connections) + more
        while len(deliveries) < goal[0] or len(connections) < goal[1]:
            await asyncio.sleep(0.01)

    writers = [asyncio.ensure_future(accepting(f"a{number}")) for number in range(6)]
    writers += [asyncio.ensure_future(establishing(f"e{number}")) for number in range(6)]
    for _ in range(chaos.rounds(2, 20)):
        await progress(chaos.random.randrange(50, 300))
        await asyncio.to_thread(own.stop, "immediate")
        await asyncio.to_thread(own.start)
    await progress(50)
    stopping = True
    await asyncio.gather(*writers)

    async with await psycopg.AsyncConnection.connect(own.url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT id FROM service_webhook_deliveries")
        stored = {id for (id,) in await cursor.fetchall()}
        assert deliveries <= stored
        cursor = await connection.execute(
            """SELECT n.id FROM service_connections n JOIN service_credentials c ON c.connection_id = n.id
            JOIN service_grant_snapshots s ON s.connection_id = n.id
            JOIN service_lifecycle_outbox e ON e.connection_id = n.id AND e.event_name = 'connection.established'
            JOIN service_lifecycle_outbox g ON g.connection_id = n.id AND g.event_name = 'grant.expanded'"""
        )
        whole = [id for (id,) in await cursor.fetchall()]
        assert len(whole) == len(set(whole))
        assert connections <= set(whole)
        cursor = await connection.execute("SELECT count(*) FROM service_connections")
        assert await cursor.fetchone() == (len(whole),)
        assert len(stored) + len(whole) <= len(deliveries) + len(connections) + unknown


async def test_idle_store_works_after_a_restart_without_an_error(own: LocalServer, store: PostgresStore) -> None:
    await asyncio.gather(*(store.queues.accept(delivery(f"d{number}")) for number in range(20)))
    await asyncio.to_thread(own.stop, "fast")
    await asyncio.to_thread(own.start)
    answers = await asyncio.gather(*(store.queues.accept(delivery(f"d{number}")) for number in range(20)))
    assert all(answer.duplicate for answer in answers)


async def test_call_waits_for_a_server_that_is_starting(own: LocalServer, store: PostgresStore) -> None:
    await store.queues.accept(delivery())
    await asyncio.to_thread(own.stop, "fast")
    call = asyncio.ensure_future(store.queues.accept(delivery()))
    await asyncio.sleep(0.1)
    assert not call.done()
    await asyncio.to_thread(own.start)
    assert (await call).duplicate
