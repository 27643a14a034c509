"""Runs units of work on SQLite: changes in the writer thread, reads at once in the caller's loop."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from go_services_core.errors import StoreUnavailable
from go_services_core.protocols import Work
from go_services_store_sql.dialect import SQLITE, Dialect
from go_services_store_sql.driver import drive

from .database import connect, execute, explain, is_busy
from .writer import Writer

T = TypeVar("T")

TRIGGERS = "INSERT INTO service_lifecycle_outbox"
"""How the statements begin that have a trigger run further ones."""


class SqliteDriver:
    """The driver for one file. It serves any number of loops and threads of one process."""

    def __init__(self, path: Path, *, busy_timeout: float, max_batch: int) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._max_batch = max_batch
        self._trace: Callable[[str], None] | None = None
        self._connections: tuple[sqlite3.Connection, ...] = ()
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._writer: Writer | None = None
        self._process = os.getpid()

    @property
    def dialect(self) -> Dialect:
        """See :class:`go_services_store_sql.driver.Driver`."""
        return SQLITE

    def start(self) -> None:
        """Open the connections and start the writer; blocks for the time of some file accesses."""
        self._process = os.getpid()
        writing = connect(self._path, write=True, busy_timeout=self._busy_timeout)
        try:
            # A reader in a loop may not wait: it hands over to the writer instead.
            self._reader = connect(self._path, write=False, busy_timeout=0.0)
        except StoreUnavailable:
            writing.close()
            raise
        self._connections = (writing, self._reader)
        self._writer = Writer(writing, self._path, max_batch=self._max_batch)
        self._tell()

    def stop(self) -> None:
        """Finish what was submitted and close; blocks until done; idempotent."""
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()  # the last to close, so that SQLite removes the log
        self._connections = ()

    def trace(self, callback: Callable[[str], None] | None) -> None:
        """Call ``callback`` with the text of every statement that SQLite runs, also BEGIN and COMMIT.

        The text holds the bound values, so this is for tests and measurements only. It comes from the thread that
        runs the statement. None ends it.
        """
        self._trace = None if callback is None else _once(callback)
        self._tell()

    def _tell(self) -> None:
        for connection in self._connections:
            connection.set_trace_callback(self._trace)

    async def run(self, work: Work[T], *, destroys: bool = False, alone: bool = False) -> T:
        """See :class:`go_services_store_sql.driver.Driver`."""
        self._check_process()
        if self._writer is None:
            raise _not_open()
        return await self._writer.submit(work, destroys=destroys, alone=alone)

    async def read(self, work: Work[T], *, scan: bool = False) -> T:
        """See :class:`go_services_store_sql.driver.Driver`. A point read takes less than a hop to a thread."""
        self._check_process()
        if scan:
            if self._reader is None:
                raise _not_open()
            return await asyncio.to_thread(self._scan, work)
        try:
            with self._reading:
                reader = self._reader
                if reader is None:
                    raise _not_open()
                return drive(work, lambda call: execute(reader, call))
        except sqlite3.Error as error:
            if not is_busy(error):
                raise explain(error, self._path) from error
        return await self.run(work)

    def _scan(self, work: Work[T]) -> T:
        """Read on a connection of its own, so that nobody waits for the shared one."""
        try:
            with closing(connect(self._path, write=False, busy_timeout=self._busy_timeout)) as connection:
                connection.set_trace_callback(self._trace)
                return drive(work, lambda call: execute(connection, call))
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def _check_process(self) -> None:
        """A forked child has neither the writer thread nor a right to the parent's connections."""
        if os.getpid() != self._process:
            raise StoreUnavailable(
                "The store was opened before this process was forked.",
                hint="Open the runtime after the fork.",
                plugin="store-sqlite",
            )


def _not_open() -> StoreUnavailable:
    return StoreUnavailable("The store is not open.", hint="Open the runtime first.", plugin="store-sqlite")


def _once(callback: Callable[[str], None]) -> Callable[[str], None]:
    """SQLite tells of a statement once more for each that a trigger of its runs."""
    last = ""

    def told(text: str) -> None:
        nonlocal last
        if text != last or not text.startswith(TRIGGERS):
            callback(text)
        last = text

    return told
