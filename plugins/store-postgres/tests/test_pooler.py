"""The store behind a transaction pooler, which gives each transaction another server connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

import pytest

from go_services_core.errors import StoreError, StoreUnavailable
from go_services_core.testing.checks.store import change, established
from go_services_core.testing.postgres import PostgresServer
from go_services_core.testing.pytest_kit import StoreKit
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore

from .pooler import Pooler, transaction_pooler

Prepare = Literal["auto", "on", "off"]


@asynccontextmanager
async def pooled(
    server: PostgresServer, url: str, *, prepare: Prepare = "auto", parameters: str = ""
) -> AsyncIterator[tuple[PostgresStore, Pooler]]:
    if server.own is None:
        pytest.skip("the pooler of the tests cannot log in to the server of the environment")
    database = urlsplit(url).path.strip("/")
    async with transaction_pooler("127.0.0.1", server.own.port, database) as pooler:
        address = f"postgresql://postgres@127.0.0.1:{pooler.port}/{database}{parameters}"
        store = PostgresStore(PostgresSettings(url=address, prepare=prepare, pool_timeout=1.0))
        try:
            yield store, pooler
        finally:
            await store.aclose()


class TestPostgresStoreBehindAPooler(StoreKit):
    @pytest.fixture(autouse=True)
    def _database(self, server: PostgresServer, url: str) -> None:
        self.server, self.url = server, url

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[PostgresStore]:
        async with pooled(self.server, self.url) as (store, _):
            await store.open()
            yield store


async def many_calls(store: PostgresStore) -> None:
    made = await established(store)
    for number in range(20):
        await store.connections.load(made.id)
        await store.connections.establish(change(f"account {number}"))


async def test_transactions_of_one_connection_run_on_several_of_the_server(server: PostgresServer, url: str) -> None:
    async with pooled(server, url) as (store, pooler):
        await store.open()
        await many_calls(store)
        assert max(len(used) for used in pooler.used) == pooler.size
        assert pooler.refused == []


async def test_statements_are_not_prepared_behind_a_pooler_unless_told(server: PostgresServer, url: str) -> None:
    async with pooled(server, url, prepare="on") as (store, _):
        await store.open()
        with pytest.raises(StoreError):  # it does not find them on the next connection
            await many_calls(store)


async def test_statements_are_prepared_without_a_pooler(server: PostgresServer, url: str) -> None:
    prepared: list[int] = []
    for mode in ("auto", "off"):
        store = PostgresStore(PostgresSettings(url=url, prepare=mode, pool_max=1))
        await store.open()
        for _ in range(10):
            await store.connections.list()
        async with store._driver._pool.connection() as connection:
            cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
            prepared += (await cursor.fetchall())[0]
        await store.aclose()
    assert prepared == [1, 0]


async def test_migrating_works_behind_a_pooler(server: PostgresServer, empty_url: str) -> None:
    async with pooled(server, empty_url) as (store, _):
        first, second = await asyncio.gather(store.migrate(), store.migrate())
        numbers = [step.number for step in [*first, *second]]
        assert sorted(numbers) == sorted(set(numbers))
        await store.open()
        assert (await store.status()).problems == ()


async def test_pooler_that_refuses_a_parameter_is_quoted(server: PostgresServer, url: str) -> None:
    async with pooled(server, url, parameters="?options=-c%20geqo%3Doff") as (store, _):
        with pytest.raises(StoreUnavailable, match="unsupported startup parameter: options"):
            await store.open()
