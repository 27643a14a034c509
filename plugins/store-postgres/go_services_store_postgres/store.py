"""The store for one PostgreSQL database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import IsolationLevel, sql

from go_services_core.clock import Clock, SystemClock, uuid7
from go_services_core.errors import StoreError
from go_services_core.model import MigrationStep, StoreStatus
from go_services_core.protocols import PluginEnv, Work
from go_services_store_sql import migrations
from go_services_store_sql.admin import SqlAdmin
from go_services_store_sql.dialect import POSTGRES
from go_services_store_sql.store import SqlStore

from .driver import PostgresDriver
from .failures import PLUGIN, explain
from .session import Connection, connect, drive, execute, server_of
from .settings import PostgresSettings
from .target import target_of
from .workbench import PostgresWorkbench

T = TypeVar("T")


def open_store(settings: PostgresSettings, env: PluginEnv) -> PostgresStore:
    """The store that ``[store]`` describes; nothing is opened yet.

    Raises:
        ConfigError: a setting cannot work.
    """
    return PostgresStore(settings, clock=env.clock)


class PostgresStore(SqlStore):
    """A :class:`go_services_core.protocols.Store` on one database, which any number of processes may share.

    Args:
        settings: the ``[store]`` table.
        clock: gives the times of migrations; leases go by the server's clock.

    Raises:
        ConfigError: a setting cannot work.
    """

    _driver: PostgresDriver

    def __init__(self, settings: PostgresSettings, *, clock: Clock | None = None) -> None:
        settings.check()
        self._target = target_of(settings)
        self._clock = clock or SystemClock()
        super().__init__(PostgresDriver(self._target, settings), plugin=PLUGIN)
        self.admin = SqlAdmin(PostgresWorkbench(self._target), clock=self._clock)

    async def open(self) -> None:
        if self._id is None:
            async with self._connection() as connection:
                (await server_of(connection)).check()
                store_id = await _drive(connection, partial(migrations.check, POSTGRES))
            await self._driver.start()
            self._id = store_id

    async def aclose(self) -> None:
        self._id = None
        await self._driver.stop()

    async def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        async with self._connection() as connection:
            (await server_of(connection)).check()
            pending = migrations.pending(await _drive(connection, migrations.ledger), POSTGRES)
            if dry_run:
                return migrations.planned(pending)
            await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)  # to see what was waited for
            store_id = uuid7(self._clock)
            steps = []
            for migration in pending:
                apply = partial(migrations.apply, migration, dialect=POSTGRES, store_id=store_id, now=self._clock.now())
                async with connection.transaction():
                    await connection.execute("SET LOCAL statement_timeout = 0", prepare=False)
                    step = await _drive(connection, apply)
                if step is not None:
                    steps.append(step)
            return steps

    async def status(self) -> StoreStatus:
        server = "PostgreSQL"
        applied: list[migrations.Applied] = []
        tables: dict[str, int] = {}
        problems: list[str] = []
        pending: list[migrations.Migration] = list(migrations.migrations(POSTGRES.name))
        latest = pending[-1].number
        try:
            async with self._connection() as connection:
                found = await server_of(connection)
                server = f"PostgreSQL {found.version}"
                problems += found.problems()
                found.check()
                applied = await _drive(connection, migrations.ledger)
                tables = await _sizes(connection)
                pending = migrations.pending(applied, POSTGRES)
        except StoreError as error:
            problems.append(str(error))
        return StoreStatus(
            url=self._target.shown,
            dialect=POSTGRES.name,
            server=server,
            schema_version=max((line.number for line in applied), default=0),
            latest_version=latest,
            pending=tuple(migrations.planned(pending)),
            tables=tables,
            problems=tuple(problems),
        )

    def trace(self, callback: Callable[[str], None] | None) -> None:
        """Call ``callback`` with the text of every statement, for tests that count them.

        It may be set before or after ``open``; see :meth:`PostgresDriver.trace`.
        """
        self._driver.trace(callback)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        """A connection beside the pool, for what must work before the schema does."""
        connection = await connect(self._target)
        try:
            yield connection
        except psycopg.Error as error:
            raise explain(error, self._target) from error
        finally:
            await connection.close()


async def _drive(connection: Connection, work: Work[T]) -> T:
    return await drive(work, partial(execute, connection))


async def _sizes(connection: Connection) -> dict[str, int]:
    cursor = await connection.execute(
        """SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname ^@ 'service_'
          AND pg_table_is_visible(oid) ORDER BY relname"""
    )
    names = [name for (name,) in await cursor.fetchall()]
    sizes = {}
    for name in names:
        cursor = await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name)))
        ((sizes[name],),) = await cursor.fetchall()
    return sizes
