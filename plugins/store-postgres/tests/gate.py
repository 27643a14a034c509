"""Holding a unit of work in its middle: an advisory lock that the test has and the unit waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from go_services_store_sql.statement import Row, Statement, Steps

PASS: Statement[Row] = Statement({"postgres": "SELECT pg_advisory_xact_lock_shared(4711)"})


def wait_at_gate() -> Steps[None]:
    """A step that ends when the gate opens."""
    yield from PASS()


class Gate:
    """Closed from the beginning."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def open(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock_all()")

    async def waiting(self, number: int = 1) -> None:
        """Return when so many backends of this database wait for a lock, this one or another."""
        while True:
            cursor = await self._connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if (await cursor.fetchone()) == (number,):
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def closed_gate(url: str) -> AsyncIterator[Gate]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(4711)")
        yield Gate(connection)
