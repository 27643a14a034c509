"""The writer thread: it owns the one writing connection and groups what is waiting into one commit."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from attrs import define

from go_services_core.errors import CommitUnknown, StoreUnavailable
from go_services_core.protocols import Work
from go_services_store_sql.driver import drive

from .database import execute, explain, is_certain

T = TypeVar("T")


@define(eq=False)
class _Job:
    work: Work[Any]
    destroys: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class Writer:
    """Runs units of work one after the other and answers each after its commit is on disk."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, max_batch: int) -> None:
        self._connection = connection
        self._path = path
        self._max_batch = max_batch
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._must_scrub = True  # a process that died may have left destroyed secrets in the log
        self._scrub()
        self._thread = threading.Thread(target=self._main, name="go-services-sqlite", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], *, destroys: bool) -> asyncio.Future[T]:
        """Queue a unit; the future belongs to the running loop. Cancelling it does not cancel the unit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._closed:
                raise StoreUnavailable("The store is closed.", plugin="store-sqlite")
            self._queue.put(_Job(work, destroys, loop, future))
        return future

    def close(self) -> None:
        """Finish what was submitted, then end the thread and the connection; blocks until done."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _main(self) -> None:
        running = True
        while running:
            batch: list[_Job] = []
            job = self._queue.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= self._max_batch or self._queue.empty():
                    break
                job = self._queue.get()
            running = job is not None
            if batch:
                self._transact(batch)
                if any(job.destroys and job.error is None for job in batch):
                    self._must_scrub = True
                self._scrub()
                _answer(batch)
        self._connection.close()

    def _transact(self, batch: Sequence[_Job]) -> None:
        """Run the batch in one transaction. A unit that fails alone undoes only itself."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._run(job, shared=len(batch) > 1)
                if not connection.in_transaction:
                    break  # FULL, IOERR and the like end the whole transaction
            else:
                self._commit(batch)
                return
        except sqlite3.Error as error:
            self._undo()
            self._fail(batch, error)
            return
        cause = next(job.error for job in batch if job.error is not None)
        for job in batch:
            job.error = job.error or StoreUnavailable(
                f"The commit that this change shared was undone: {cause}", plugin="store-sqlite"
            )

    def _run(self, job: _Job, *, shared: bool) -> None:
        connection = self._connection
        if shared:
            connection.execute("SAVEPOINT unit")
        try:
            job.value = drive(job.work, lambda call: execute(connection, call))
        except BaseException as error:  # the thread must outlive whatever a caller's work raises
            job.error = explain(error, self._path) if isinstance(error, sqlite3.Error) else error
            if job.error is not error:
                job.error.__cause__ = error
            if connection.in_transaction:
                connection.execute("ROLLBACK TO unit" if shared else "ROLLBACK")
        if shared and connection.in_transaction:
            connection.execute("RELEASE unit")

    def _commit(self, batch: Sequence[_Job]) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            self._fail(batch, error, certain=is_certain(error))

    def _fail(self, batch: Sequence[_Job], error: sqlite3.Error, *, certain: bool = True) -> None:
        for job in batch:
            if job.error is None:
                unknown = CommitUnknown(f"The commit failed: {error}.", plugin="store-sqlite")
                job.error = explain(error, self._path) if certain else unknown
                job.error.__cause__ = error

    def _undo(self) -> None:
        """End a transaction that failed. Where even that fails, the next BEGIN fails and tries again."""
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _scrub(self) -> None:
        """Empty the write-ahead log, which still has the pages as they were before secrets were overwritten.

        While another process reads, that cannot be done at once; it is tried again after each commit.
        """
        if not self._must_scrub:
            return
        connection = self._connection
        (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
        try:
            connection.execute("PRAGMA busy_timeout = 50").fetchall()
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._must_scrub = bool(busy)
        except sqlite3.Error:
            self._must_scrub = True
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience}").fetchall()


def _answer(batch: Sequence[_Job]) -> None:
    """Wake each loop once for all of its callers."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in batch:
        loops.setdefault(job.loop, []).append(job)
    for loop, jobs in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, jobs)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def _resolve(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue  # the caller was cancelled
        if job.error is None:
            job.future.set_result(job.value)
        else:
            job.future.set_exception(job.error)
