"""The writer thread: it owns the one writing connection and groups what is waiting into one commit."""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from attrs import define

from go_services_core.errors import CommitUnknown, StoreUnavailable
from go_services_core.protocols import Work
from go_services_store_sql.driver import Joint, drive

from .database import execute, explain, is_certain

T = TypeVar("T")

CHECKPOINT_UNITS: Final = 400
"""Units of work after which the log is copied into the database: about what SQLite does by itself after 4 MiB. Three
that share a commit, and most of its pages, count as one that has it to itself."""
LOG_LIMIT: Final = 16 * 2**20
"""Bytes of log after which it is copied and cut."""
RETRY: Final = 1.0
"""Seconds to let pass where a reader kept the log from being cut."""


@define(eq=False)
class _Job:
    work: Work[Any]
    destroys: bool
    alone: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    is_run: bool = False
    value: Any = None
    error: BaseException | None = None


class Writer:
    """Runs units of work one after the other and answers each after its commit is on disk."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, max_batch: int) -> None:
        self._connection = connection
        self._execute = partial(execute, connection)
        self._path = path
        self._log = f"{path}-wal"
        self._max_batch = max_batch
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._arrived: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        self._gate = threading.Lock()
        self._closed = False
        self._units = 0
        self._retry_at = 0.0
        self._must_cut = True  # a process that died may have left destroyed secrets in the log
        self._checkpoint("TRUNCATE")
        self._thread = threading.Thread(target=self._main, name="go-services-sqlite", daemon=True)
        self._thread.start()

    def submit(self, work: Work[T], *, destroys: bool, alone: bool) -> asyncio.Future[T]:
        """Queue a unit; the future belongs to the running loop. Cancelling it does not cancel the unit.

        One that is ``alone`` changes nothing but by its last statement, which SQLite undoes by itself where it fails.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._closed:
                raise StoreUnavailable("The store is closed.", plugin="store-sqlite")
            arrived = self._arrived.get(loop)
            if arrived is None:
                # What one turn of the loop submits is handed over at once: the first would get a commit of its own,
                # and every waking of the thread costs the loop more than it costs to submit.
                arrived = self._arrived[loop] = []
                loop.call_soon(self._hand_over, loop)
            arrived.append(_Job(work, destroys, alone, loop, future))
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._gate:
            if arrived := self._arrived.pop(loop, None):
                self._queue.put(arrived)

    def close(self) -> None:
        """Finish what was submitted, then end the thread and the connection; blocks until done."""
        with self._gate:
            if not self._closed:
                self._closed = True
                for arrived in self._arrived.values():
                    self._queue.put(arrived)
                self._arrived.clear()
                self._queue.put(None)
        self._thread.join()

    def _main(self) -> None:
        running = True
        waiting: list[_Job] = []
        while running or waiting:
            try:
                while running and len(waiting) < self._max_batch and not (waiting and self._queue.empty()):
                    arrived = self._queue.get(timeout=RETRY if self._must_cut else None)
                    running = arrived is not None
                    waiting += arrived or ()
            except queue.Empty:
                self._checkpoint("TRUNCATE")
                continue
            batch, waiting = waiting[: self._max_batch], waiting[self._max_batch :]
            if batch:
                self._transact(batch)
                if any(job.destroys and job.error is None for job in batch):
                    self._must_cut = True
                    self._checkpoint("TRUNCATE")
                self._units += 1 + len(batch) // 3
                due = self._due()  # before the answer wakes the callers, who want the interpreter for themselves
                _answer(batch)
                if due is not None:
                    self._checkpoint(due)
        self._connection.close()

    def _transact(self, batch: Sequence[_Job]) -> None:
        """Run the batch in one transaction. A unit that fails alone undoes only itself."""
        connection = self._connection
        cause: BaseException | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._join(batch)
            for job in batch:
                if job.is_run:
                    continue
                self._run(job, shared=len(batch) > 1)
                if not connection.in_transaction:
                    cause = job.error  # FULL, IOERR and the like end the whole transaction
                    break
            else:
                self._commit(batch)
                return
        except sqlite3.Error as error:
            self._undo()
            self._fail(batch, error)
            return
        for job in batch:
            job.error = job.error or StoreUnavailable(
                f"The commit that this change shared was undone: {cause}", plugin="store-sqlite"
            )

    def _join(self, batch: Sequence[_Job]) -> None:
        """Run as one what can be. Where that fails SQLite has undone it, and each is run by itself.

        Raises:
            sqlite3.Error: the failure ended the whole transaction.
        """
        kinds: dict[type[Joint[Any]], list[tuple[_Job, Joint[Any]]]] = {}
        for job in batch:
            if isinstance(job.work, Joint):
                kinds.setdefault(type(job.work), []).append((job, job.work))
        for kind, joined in kinds.items():
            if len(joined) < 2:
                continue
            try:
                answers = drive(partial(kind.together, [unit for _, unit in joined]), self._execute)
            except Exception:
                if not self._connection.in_transaction:
                    raise
                continue
            for (job, _), answer in zip(joined, answers, strict=True):
                if answer is not None:
                    job.value, job.is_run = answer, True

    def _run(self, job: _Job, *, shared: bool) -> None:
        connection = self._connection
        marked = shared and not job.alone
        if marked:
            connection.execute("SAVEPOINT unit")
        try:
            job.value = drive(job.work, self._execute)
        except BaseException as error:  # the thread must outlive whatever a caller's work raises
            job.error = explain(error, self._path) if isinstance(error, sqlite3.Error) else error
            if job.error is not error:
                job.error.__cause__ = error
            if connection.in_transaction and (marked or not shared):
                connection.execute("ROLLBACK TO unit" if marked else "ROLLBACK")
        if marked and connection.in_transaction:
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

    def _due(self) -> Literal["RESTART", "TRUNCATE"] | None:
        """Which checkpoint it is time for, if any."""
        if self._retry_at and time.monotonic() < self._retry_at:
            return None
        if self._must_cut or self._log_size() > LOG_LIMIT:
            self._must_cut = True
            return "TRUNCATE"
        return "RESTART" if self._units >= CHECKPOINT_UNITS else None

    def _log_size(self) -> int:
        try:
            return os.stat(self._log).st_size  # noqa: PTH116  half the time of Path.stat, after every commit
        except FileNotFoundError:
            return 0

    def _checkpoint(self, mode: Literal["RESTART", "TRUNCATE"]) -> None:
        """Copy the write-ahead log into the database; ``TRUNCATE`` also cuts the file to nothing.

        The log has pages as they were before secrets were overwritten, so that what destroys any must cut it. While
        another process reads an older state that cannot be done; it is tried again, also when nothing is written.

        SQLite's own checkpoints after a commit are off: they run without the write lock, and before 3.51.3 one that
        meets a commit of another process may lose pages (https://www.sqlite.org/wal.html#walresetbug).
        """
        connection = self._connection
        (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
        busy = 1
        try:
            connection.execute("PRAGMA busy_timeout = 50").fetchall()
            busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error:
            pass  # a full disk, for instance: the log still has everything
        finally:
            connection.execute(f"PRAGMA busy_timeout = {patience}").fetchall()
        self._units = 0
        self._must_cut = self._must_cut and (bool(busy) or mode != "TRUNCATE")
        self._retry_at = time.monotonic() + RETRY if busy else 0.0


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
