"""The store for one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from go_services_core.clock import Clock, SystemClock, uuid7
from go_services_core.errors import SchemaOutOfDate, StoreError
from go_services_core.model import MigrationStep, StoreStatus
from go_services_core.protocols import PluginEnv, Work
from go_services_store_sql import migrations
from go_services_store_sql.admin import SqlAdmin
from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.driver import drive
from go_services_store_sql.store import SqlStore

from .database import connect, create_file, execute, explain
from .driver import SqliteDriver
from .settings import SqliteSettings, database_path
from .workbench import SqliteWorkbench

T = TypeVar("T")


def open_store(settings: SqliteSettings, env: PluginEnv) -> SqliteStore:
    """The store that ``[store]`` describes; nothing is opened yet."""
    return SqliteStore(
        database_path(settings.url),
        busy_timeout=settings.busy_timeout,
        max_batch=settings.max_batch,
        clock=env.clock,
    )


class SqliteStore(SqlStore):
    """A :class:`go_services_core.protocols.Store` on one file, which several processes may share.

    Args:
        path: the database file; ``migrate`` makes it, readable by its owner only.
        busy_timeout: seconds to wait while another process writes.
        max_batch: units of work that share one commit at most.
        clock: gives the times of migrations; leases go by SQLite's clock.
    """

    _driver: SqliteDriver

    def __init__(
        self, path: Path, *, busy_timeout: float = 5.0, max_batch: int = 256, clock: Clock | None = None
    ) -> None:
        self._path = path.absolute()
        self._busy_timeout = busy_timeout
        self._clock = clock or SystemClock()
        driver = SqliteDriver(self._path, busy_timeout=busy_timeout, max_batch=max_batch)
        super().__init__(driver, plugin="store-sqlite")
        self.admin = SqlAdmin(SqliteWorkbench(self._path, busy_timeout=busy_timeout), clock=self._clock)

    async def open(self) -> None:
        if self._id is None:
            self._id = await asyncio.to_thread(self._open)

    async def aclose(self) -> None:
        self._id = None
        await asyncio.to_thread(self._driver.stop)

    async def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        return await asyncio.to_thread(self._plan if dry_run else self._migrate)

    async def status(self) -> StoreStatus:
        return await asyncio.to_thread(self._status)

    def trace(self, callback: Callable[[str], None] | None) -> None:
        """Call ``callback`` with the text of every statement, for tests that count them.

        It may be set before or after ``open``; see :meth:`SqliteDriver.trace`.
        """
        self._driver.trace(callback)

    def _open(self) -> str:
        if not self._path.exists():
            raise SchemaOutOfDate(
                f"There is no database at {self._path}.",
                hint="Run `go-services store migrate` to make it, or change [store] url.",
                plugin="store-sqlite",
                field="store.url",
            )
        with closing(self._connect(write=False)) as connection:
            store_id = self._drive(connection, partial(migrations.check, SQLITE))
        self._driver.start()
        return store_id

    def _connect(self, *, write: bool) -> sqlite3.Connection:
        return connect(self._path, write=write, busy_timeout=self._busy_timeout)

    def _drive(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        try:
            return drive(work, lambda call: execute(connection, call))
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def _plan(self) -> list[MigrationStep]:
        applied: list[migrations.Applied] = []
        if self._path.exists():
            with closing(self._connect(write=False)) as connection:
                applied = self._drive(connection, migrations.ledger)
        return migrations.planned(migrations.pending(applied, SQLITE))

    def _migrate(self) -> list[MigrationStep]:
        if not self._plan():
            return []
        create_file(self._path)
        store_id = uuid7(self._clock)
        steps = []
        with closing(self._connect(write=True)) as connection:
            for migration in migrations.migrations(SQLITE.name):
                apply = partial(migrations.apply, migration, dialect=SQLITE, store_id=store_id, now=self._clock.now())
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    step = self._drive(connection, apply)
                    connection.execute("COMMIT")
                except sqlite3.Error as error:
                    raise explain(error, self._path) from error
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                if step is not None:
                    steps.append(step)
        return steps

    def _status(self) -> StoreStatus:
        applied: list[migrations.Applied] = []
        tables: dict[str, int] = {}
        problems: list[str] = []
        pending: list[migrations.Migration] = list(migrations.migrations(SQLITE.name))
        latest = pending[-1].number
        if not self._path.exists():
            problems.append(f"there is no database at {self._path}")
        else:
            if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
                problems.append("other users may read the file; run `chmod 600` on it")
            try:
                with closing(self._connect(write=False)) as connection:
                    applied = self._drive(connection, migrations.ledger)
                    tables = _sizes(connection)
                    problems += _damage(connection)
                    pending = migrations.pending(applied, SQLITE)
            except (StoreError, sqlite3.DatabaseError) as error:
                problems.append(str(error))
        return StoreStatus(
            url=f"sqlite:///{self._path}",
            dialect=SQLITE.name,
            server=f"SQLite {sqlite3.sqlite_version}",
            schema_version=max((line.number for line in applied), default=0),
            latest_version=latest,
            pending=tuple(migrations.planned(pending)),
            tables=tables,
            problems=tuple(problems),
        )


def _sizes(connection: sqlite3.Connection) -> dict[str, int]:
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'service_*' ORDER BY name"
    ).fetchall()
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}  # noqa: S608


def _damage(connection: sqlite3.Connection) -> list[str]:
    found = [line for (line,) in connection.execute("PRAGMA quick_check(5)")]
    return [] if found == ["ok"] else found
