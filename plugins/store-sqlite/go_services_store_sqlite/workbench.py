"""Work on the whole file: a connection of its own that rebuilds tables and gives space back."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from go_services_core.admin import Progress, Vacuumed
from go_services_core.errors import SchemaOutOfDate
from go_services_core.protocols import Work
from go_services_store_sql.adopt_values import FUNCTIONS
from go_services_store_sql.dialect import SQLITE, Dialect
from go_services_store_sql.driver import drive

from .database import check_version, execute, explain

T = TypeVar("T")


class SqliteWorkbench:
    """A :class:`go_services_store_sql.admin.Workbench` on one file.

    Args:
        path: the database file.
        busy_timeout: seconds to wait while another process writes.
    """

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout

    @property
    def dialect(self) -> Dialect:
        """SQLite."""
        return SQLITE

    async def exists(self) -> bool:
        """See the protocol."""
        return self._path.exists()

    async def transact(self, work: Work[T], *, keep: bool) -> T:
        """See the protocol."""
        return await asyncio.to_thread(self._transact, work, keep)

    async def vacuum(self, *, dry_run: bool, progress: Progress | None) -> Sequence[Vacuumed]:
        """See the protocol. It needs as much free disk as the file is large, and writers wait."""
        return await asyncio.to_thread(self._vacuum, dry_run, progress)

    def _connect(self) -> sqlite3.Connection:
        """It leaves the journal mode as it is: that of the Go system's file may be another."""
        check_version()
        if not self._path.exists():
            raise SchemaOutOfDate(
                f"There is no database at {self._path}.",
                hint="Run `go-services store migrate` to make it, or change [store] url.",
                plugin="store-sqlite",
                field="store.url",
            )
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=self._busy_timeout
        )
        for name, (arguments, function) in FUNCTIONS.items():
            connection.create_function(name, arguments, function, deterministic=True)
        for pragma in ("foreign_keys = OFF", "legacy_alter_table = ON", "secure_delete = ON", "synchronous = FULL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _transact(self, work: Work[T], keep: bool) -> T:
        try:
            with closing(self._connect()) as connection:
                # What only looks must not keep writers out; a dry run that writes takes the lock when it does.
                connection.execute("BEGIN IMMEDIATE" if keep else "BEGIN")
                try:
                    value = drive(work, lambda call: execute(connection, call))
                    connection.execute("COMMIT" if keep else "ROLLBACK")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                if keep:
                    with suppress(sqlite3.OperationalError):  # the log is emptied later, when nobody reads it
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                return value
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def _vacuum(self, dry_run: bool, progress: Progress | None) -> list[Vacuumed]:
        try:
            with closing(self._connect()) as connection:
                before, free = _pages(connection)
                if not dry_run:
                    if progress is not None:
                        progress(f"rewriting {self._path.name}")
                    connection.execute("VACUUM")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                after = before - free if dry_run else _pages(connection)[0]
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
        return [Vacuumed(name=self._path.name, before=before, after=after)]


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the database and of its unused pages."""
    size, pages, free = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return size * pages, size * free
