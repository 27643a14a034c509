"""One connection: opening it, and running statements and units on it."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar

import psycopg
from attrs import frozen
from psycopg import AsyncConnection

from go_services_core.errors import BadInput, StoreUnavailable
from go_services_core.protocols import Work
from go_services_store_sql.dialect import POSTGRES
from go_services_store_sql.statement import Call, Row

from .failures import PLUGIN, NoAnswer, explain
from .target import Target

T = TypeVar("T")
Connection: TypeAlias = AsyncConnection[Row]

MINIMUM: Final = 13
"""The oldest release that its makers still supported when this was written."""
OPTIONS: Final[dict[str, Any]] = {"autocommit": True, "prepare_threshold": None}


async def connect(target: Target, *, timeout: float | None = None) -> Connection:
    """A connection of its own, beside the pool.

    Raises:
        StoreUnavailable: with the reason.
    """
    options = OPTIONS if timeout is None else {**OPTIONS, "connect_timeout": max(2, round(timeout))}
    try:
        return await AsyncConnection.connect(target.conninfo, **options)
    except psycopg.Error as error:
        raise explain(error, target) from error


@frozen
class Server:
    """What a server says of itself."""

    version: str
    number: int
    encoding: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    standby: bool

    def check(self) -> None:
        """Refuse a server that cannot run the store.

        Raises:
            StoreUnavailable: too old, or its database cannot hold all text.
        """
        if self.number < MINIMUM * 10000:
            raise StoreUnavailable(
                f"The server is PostgreSQL {self.version}; the store needs {MINIMUM} or newer.",
                hint="Upgrade the server.",
                plugin=PLUGIN,
            )
        if self.encoding != "UTF8":
            raise StoreUnavailable(
                f"The database's encoding is {self.encoding}, which cannot hold every text.",
                hint="Create it with ENCODING 'UTF8' TEMPLATE template0.",
                plugin=PLUGIN,
            )

    def problems(self) -> list[str]:
        """What makes an acknowledged change less than durable, or a change impossible."""
        found = [
            f"{name} is off: a crash of the server may lose what was acknowledged"
            for name in ("fsync", "full_page_writes", "synchronous_commit")
            if getattr(self, name) == "off"
        ]
        return [*found, "the server is a standby, which takes no changes"] if self.standby else found


async def server_of(connection: Connection) -> Server:
    """Ask the server what it is."""
    cursor = await connection.execute(
        """SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
          current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'),
          current_setting('synchronous_commit'), pg_is_in_recovery()"""
    )
    (row,) = await cursor.fetchall()
    return Server(*row)


async def prepare_unless_pooled(connection: Connection, mode: Literal["auto", "on", "off"]) -> None:
    """Let a new connection prepare what it runs often, unless its statements may reach several servers.

    A pooler tells its clients another process id than that of the server that happens to run the statement.
    """
    if mode == "auto":
        cursor = await connection.execute("SELECT pg_backend_pid()")
        ((backend,),) = await cursor.fetchall()
        mode = "on" if backend == connection.info.backend_pid else "off"
    connection.prepare_threshold = 5 if mode == "on" else None


def is_alive(connection: Connection) -> bool:
    """Whether an idle connection was not ended by the other side, as far as this machine has heard; costs no query."""
    try:
        while not connection.closed and _has_input(connection.fileno()):
            connection.pgconn.consume_input()
    except (psycopg.Error, OSError):
        return False
    return not connection.closed


def _has_input(handle: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([handle], [], [], 0)[0])
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(0))


async def execute(connection: Connection, call: Call) -> list[Row]:
    """Run one step of a unit and give all its rows.

    Raises:
        BadInput: a text has characters that UTF-8 does not.
        psycopg.Error: the database's own.
    """
    compiled = call.statement.compiled(POSTGRES)
    try:
        # Binary: as text, bytes would be sent in twice their size.
        cursor = await connection.execute(compiled.text, compiled.bind(call.values), binary=True)
    except UnicodeEncodeError as error:
        raise BadInput("PostgreSQL cannot store text with lone surrogates.", plugin=PLUGIN) from error
    return [] if cursor.description is None else await cursor.fetchall()


async def within(seconds: float, connection: Connection, answer: Awaitable[T]) -> T:
    """Wait for an answer of the server; give the connection up after ``seconds``.

    Raises:
        NoAnswer: it did not come.
    """
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError as error:
        await connection.close()
        raise NoAnswer(f"no answer within {seconds:g} seconds") from error


async def drive(work: Work[T], run: Callable[[Call], Awaitable[list[Row]]]) -> T:
    """Run one unit to its end. Database errors are raised here, never thrown into the unit."""
    unit = work()
    try:
        call = next(unit)
        while True:
            call = unit.send(await run(call))
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        unit.close()
