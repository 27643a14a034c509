"""Runs units of work on a pool of connections."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from go_services_core.errors import CommitUnknown, ServicesError, StoreUnavailable
from go_services_core.protocols import Work
from go_services_store_sql.dialect import POSTGRES, Dialect
from go_services_store_sql.statement import Call, Row

from .failures import PLUGIN, NoAnswer, explain, is_lost, is_undone
from .session import OPTIONS, Connection, connect, drive, execute, is_alive, prepare_unless_pooled, within
from .settings import PostgresSettings
from .target import Target

T = TypeVar("T")

PAUSES: Final = (0.0, 0.02, 0.1, 0.3, 1.0)
"""Seconds before each further try of a unit that changed nothing; half to all of them are waited."""

Kind = Literal["transaction", "alone", "read"]


class _Nothing(Exception):
    """The unit changed nothing and may be run again."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__()
        self.cause = cause


class PostgresDriver:
    """The driver for one database. It belongs to the event loop that started it.

    It keeps no state in a session: no prepared statement or setting behind a pooler, no lock beyond a transaction.
    """

    def __init__(self, target: Target, settings: PostgresSettings) -> None:
        self._target = target
        self._settings = settings
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._units: set[asyncio.Task[None]] = set()
        self._trace: Callable[[str], None] | None = None
        # Where the server has a limit, too, that one comes first and keeps the connection.
        self._patience = settings.statement_timeout + 1.0
        limit = int(settings.statement_timeout * 1000)
        # The limits are the transaction's own, because a pooler would give a session's to somebody else. The second
        # one frees the locks of a process that fell silent in the middle.
        self._begin: Final = (
            f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = {limit}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {limit}"
        )

    @property
    def dialect(self) -> Dialect:
        """See :class:`go_services_store_sql.driver.Driver`."""
        return POSTGRES

    async def start(self) -> None:
        """Start the pool, which connects in the background."""
        settings = self._settings
        self._process, self._loop = os.getpid(), asyncio.get_running_loop()
        self._pool = AsyncConnectionPool(
            self._target.conninfo,
            connection_class=AsyncConnection[Row],
            kwargs=OPTIONS,
            min_size=settings.pool_min,
            max_size=settings.pool_max,
            timeout=settings.pool_timeout,
            reconnect_timeout=settings.pool_timeout,
            configure=partial(prepare_unless_pooled, mode=settings.prepare),
            name="go-services",
            open=False,
        )
        await self._pool.open()

    async def stop(self) -> None:
        """Finish what was submitted, also by callers that were cancelled, and close; idempotent."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            while self._units:
                await asyncio.wait(self._units)
        finally:
            await pool.close()

    def trace(self, callback: Callable[[str], None] | None) -> None:
        """Call ``callback`` with the text of every statement, also BEGIN and COMMIT. None ends it."""
        self._trace = callback

    async def run(self, work: Work[T], *, destroys: bool = False, alone: bool = False) -> T:
        """See :class:`go_services_store_sql.driver.Driver`.

        ``destroys`` makes no difference: an overwritten row stays in the table's file until VACUUM and in the
        write-ahead log until that is recycled, and neither can be hurried from here.
        """
        pool = self._usable()
        return await self._submit(self._repeat(pool, work, "alone" if alone else "transaction"))

    async def read(self, work: Work[T], *, scan: bool = False) -> T:
        """See :class:`go_services_store_sql.driver.Driver`; ``scan`` makes no difference here."""
        return await self._repeat(self._usable(), work, "read")

    def _usable(self) -> AsyncConnectionPool[Connection]:
        if self._pool is None:
            raise StoreUnavailable("The store is not open.", hint="Open the runtime first.", plugin=PLUGIN)
        if os.getpid() != self._process:
            raise StoreUnavailable(
                "The store was opened before this process was forked.",
                hint="Open the runtime after the fork.",
                plugin=PLUGIN,
            )
        if asyncio.get_running_loop() is not self._loop:
            raise StoreUnavailable(
                "The store was opened in another event loop.",
                hint="Open one runtime for each loop, or use BlockingRuntime from threads.",
                plugin=PLUGIN,
            )
        return self._pool

    async def _submit(self, unit: Coroutine[Any, Any, T]) -> T:
        """The unit belongs to the store from here on: a caller that is cancelled stops waiting, no more."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(_answer(unit, answer))
        self._units.add(task)
        task.add_done_callback(self._units.discard)
        return await answer

    async def _repeat(self, pool: AsyncConnectionPool[Connection], work: Work[T], kind: Kind) -> T:
        """Run a unit, and again while that is certain to have changed nothing."""
        pauses = iter(PAUSES)
        while True:
            try:
                return await self._attempt(pool, work, kind)
            except _Nothing as nothing:
                pause = next(pauses, None)
                if pause is None:
                    raise explain(nothing.cause, self._target) from nothing.cause
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  spreads rivals, guards nothing

    async def _attempt(self, pool: AsyncConnectionPool[Connection], work: Work[T], kind: Kind) -> T:
        connection = await self._take(pool)
        in_doubt = kind == "alone"  # whether a connection that is lost now leaves open what was changed
        try:
            if kind == "transaction":
                await self._control(connection, self._begin)
            value = await drive(work, partial(self._step, connection))
            if kind == "transaction":
                in_doubt = True
                await self._control(connection, "COMMIT")
            return value
        except psycopg.Error as error:
            if is_undone(error):
                raise _Nothing(error) from error
            if not is_lost(error, connection):
                raise explain(error, self._target) from error
            if in_doubt:
                said = self._target.clean(str(error)).rstrip(".")
                raise CommitUnknown(f"The connection was lost while committing: {said}.", plugin=PLUGIN) from error
            if isinstance(error, NoAnswer):
                raise explain(error, self._target) from error
            raise _Nothing(error) from error
        finally:
            await self._give_back(pool, connection)

    async def _step(self, connection: Connection, call: Call) -> list[Row]:
        text = call.statement.compiled(POSTGRES).text
        if not text:
            return []  # a step that PostgreSQL does without
        if self._trace is not None:
            self._trace(text)
        return await within(self._patience, connection, execute(connection, call))

    async def _control(self, connection: Connection, text: str) -> None:
        if self._trace is not None:
            self._trace(text)
        await within(self._patience, connection, connection.execute(text, prepare=False))

    async def _take(self, pool: AsyncConnectionPool[Connection]) -> Connection:
        while True:
            try:
                connection = await pool.getconn()
            except PoolTimeout as error:
                raise await self._why_none() from error
            except PoolClosed as error:
                raise StoreUnavailable("The store is closed.", plugin=PLUGIN) from error
            if is_alive(connection):
                return connection
            await connection.close()
            await pool.putconn(connection)

    async def _why_none(self) -> ServicesError:
        """The pool does not tell why it has no connection; one more attempt does."""
        try:
            connection = await connect(self._target, timeout=2)
        except ServicesError as reason:
            return reason
        await connection.close()
        return StoreUnavailable(
            f"All {self._settings.pool_max} connections to {self._target.shown} are busy.",
            hint="Raise [store] pool_max, or find what holds them for so long.",
            plugin=PLUGIN,
        )

    async def _give_back(self, pool: AsyncConnectionPool[Connection], connection: Connection) -> None:
        status = connection.pgconn.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                await self._control(connection, "ROLLBACK")
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            await connection.close()
        await pool.putconn(connection)


async def _answer(unit: Coroutine[Any, Any, T], answer: asyncio.Future[T]) -> None:
    """Run ``unit`` and tell who waits for it; a caller that was cancelled does not."""
    try:
        value = await unit
    except asyncio.CancelledError:
        answer.cancel()
        raise
    except BaseException as error:
        if not answer.done():
            answer.set_exception(error)
    else:
        if not answer.done():
            answer.set_result(value)
