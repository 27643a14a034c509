"""Connections that are cut by a proxy in between, before and after COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from go_services_core.errors import CommitUnknown, StoreUnavailable
from go_services_core.testing.checks.store import change, established
from go_services_core.testing.checks.store_queues import delivery
from go_services_core.testing.postgres import PostgresServer
from go_services_core.testing.proxy import TcpProxy, Way, tcp_proxy
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


@pytest.fixture
async def proxy(server: PostgresServer) -> AsyncIterator[TcpProxy]:
    if server.own is None:
        pytest.skip("the server of the environment may want TLS, which hides the statements from the proxy")
    async with tcp_proxy("127.0.0.1", server.own.port) as made:
        yield made


@pytest.fixture
async def store(url: str, proxy: TcpProxy) -> AsyncIterator[PostgresStore]:
    """A store that reaches its database through the proxy."""
    made = PostgresStore(PostgresSettings(url=through(proxy, url), pool_timeout=5.0))
    await made.open()
    await made.queues.list("inbox")  # the pool has its first connection
    yield made
    await made.aclose()


def through(proxy: TcpProxy, url: str) -> str:
    return urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()


async def counts(url: str) -> tuple[Any, ...] | None:
    """Connections, credentials and events, as seen past the proxy, once no transaction is open any more."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            cursor = await connection.execute(
                """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"""
            )
            if await cursor.fetchone() == (0,):
                break
        cursor = await connection.execute(
            """SELECT (SELECT count(*) FROM service_connections), (SELECT count(*) FROM service_credentials),
              (SELECT count(*) FROM service_lifecycle_outbox WHERE event_name NOT LIKE 'grant.%')"""
        )
        return await cursor.fetchone()


class Cut:
    """Cuts once: in place of what holds ``text``, or of the first answer to it on the same connection."""

    def __init__(self, text: bytes, *, answer: bool = False) -> None:
        self._text = text
        self._way: Way = "down" if answer else "up"
        self._seen: int | None = None
        self.done = False

    def __call__(self, connection: int, way: Way, data: bytes) -> bool:
        if self._seen is None and way == "up" and self._text in data:
            self._seen = connection
        if self.done or connection != self._seen or way != self._way:
            return False
        self.done = True
        return True


@pytest.mark.parametrize("answer", [False, True])
@pytest.mark.parametrize("text", [b"BEGIN", b"service_credentials", b"service_grant_events", b"outbox"])
async def test_unit_that_lost_its_connection_before_commit_is_run_again(
    url: str, proxy: TcpProxy, store: PostgresStore, text: bytes, answer: bool
) -> None:
    proxy.watch = cut = Cut(text, answer=answer)
    wanted = change()
    assert await store.connections.establish(wanted) == (wanted.connection, 1)
    assert cut.done
    assert await counts(url) == (1, 1, 1)


async def test_commit_that_never_arrived_is_unknown_and_changed_nothing(
    url: str, proxy: TcpProxy, store: PostgresStore
) -> None:
    proxy.watch = Cut(b"COMMIT\0")
    wanted = change()
    with pytest.raises(CommitUnknown):
        await store.connections.establish(wanted)
    assert await counts(url) == (0, 0, 0)
    assert await store.connections.establish(wanted) == (wanted.connection, 1)


async def test_commit_whose_answer_was_lost_is_unknown_and_changed_everything(
    url: str, proxy: TcpProxy, store: PostgresStore
) -> None:
    proxy.watch = Cut(b"COMMIT\0", answer=True)
    wanted = change()
    with pytest.raises(CommitUnknown):
        await store.connections.establish(wanted)
    assert await counts(url) == (1, 1, 1)
    assert await store.connections.load(wanted.connection.id) == (wanted.connection, wanted.credential)


async def test_single_statement_whose_answer_was_lost_is_unknown_and_not_repeated(
    proxy: TcpProxy, store: PostgresStore
) -> None:
    proxy.watch = Cut(b"service_webhook_deliveries", answer=True)
    first = delivery()
    with pytest.raises(CommitUnknown):
        await store.queues.accept(first)
    again = await store.queues.accept(delivery())
    assert (again.id, again.duplicate) == (first.id, True)


async def test_read_that_lost_its_connection_is_repeated(proxy: TcpProxy, store: PostgresStore) -> None:
    made = await established(store)
    proxy.watch = cut = Cut(b"service_connections", answer=True)
    assert (await store.connections.load(made.id))[0] == made
    assert cut.done


@pytest.mark.parametrize("reset", [False, True])
async def test_connections_that_ended_while_idle_are_not_used(
    proxy: TcpProxy, store: PostgresStore, reset: bool
) -> None:
    await asyncio.gather(*(store.queues.accept(delivery(f"d{number}")) for number in range(20)))
    proxy.cut(reset=reset)
    await asyncio.sleep(0.05)  # for the news to reach the sockets
    answers = await asyncio.gather(*(store.queues.accept(delivery(f"e{number}")) for number in range(20)))
    assert not any(answer.duplicate for answer in answers)


async def test_network_that_swallows_everything_is_given_up(url: str, proxy: TcpProxy) -> None:
    settings = PostgresSettings(url=through(proxy, url), statement_timeout=0.1, pool_timeout=0.1)
    store = PostgresStore(settings)
    await store.open()
    await store.queues.accept(delivery())
    proxy.hold()
    proxy.refuse = True  # so that asking the server to cancel fails at once
    with pytest.raises(CommitUnknown, match="no answer"):
        await store.queues.accept(delivery("d2"))
    proxy.release()
    proxy.refuse = False
    assert (await store.queues.accept(delivery())).duplicate
    await store.aclose()


async def test_server_that_is_away_is_named_with_its_reason(url: str, proxy: TcpProxy) -> None:
    store = PostgresStore(PostgresSettings(url=through(proxy, url), pool_timeout=0.2))
    await store.open()
    proxy.refuse = True
    proxy.cut()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{proxy.port}.*closed the connection"):
        await store.connections.list()
    proxy.refuse = False
    while True:
        try:
            assert (await store.connections.list()).items == ()
            break
        except StoreUnavailable:
            continue
    await store.aclose()
