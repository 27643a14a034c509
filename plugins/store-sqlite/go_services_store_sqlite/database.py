"""Connections to the database file, and what SQLite's errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from go_services_core.errors import Conflict, ServicesError, StoreError, StoreUnavailable
from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.statement import Call, Row

MINIMUM: Final = (3, 35, 0)
"""The first release with RETURNING."""


def check_version() -> None:
    """Refuse an SQLite library that cannot run the statements.

    Raises:
        StoreUnavailable: it is older than 3.35.
    """
    if sqlite3.sqlite_version_info < MINIMUM:
        raise StoreUnavailable(
            f"The SQLite library of this Python is {sqlite3.sqlite_version}; the store needs 3.35 or newer.",
            hint="Use a Python that is built with a newer SQLite.",
            plugin="store-sqlite",
        )


def create_file(path: Path) -> None:
    """Make an empty file that only its owner may read; SQLite gives its companions the same mode.

    Raises:
        StoreUnavailable: the folder does not exist or cannot be written.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailable(
            f"The database {path} cannot be created: {error.strerror}.",
            hint="Create the folder, or change [store] url.",
            plugin="store-sqlite",
            field="store.url",
        ) from error


def connect(path: Path, *, write: bool, busy_timeout: float) -> sqlite3.Connection:
    """Open the existing file in autocommit mode.

    A writing connection makes every commit durable (WAL, ``synchronous=FULL``), checks foreign keys and overwrites
    what it deletes. Checkpoints are up to whoever opens it; the last connection to close makes one.

    Raises:
        StoreUnavailable: there is no such file, it cannot be opened, or it is not an SQLite database.
    """
    check_version()
    connection = None
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={'rw' if write else 'ro'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=busy_timeout,
            cached_statements=256,
        )
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if write:
            _use_wal(connection, busy_timeout)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON").fetchall()
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()  # the writer's, see there
        else:
            connection.execute("PRAGMA query_only = ON")
    except (sqlite3.Error, StoreUnavailable) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StoreUnavailable):
            raise
        raise explain(error, path) from error
    return connection


def _use_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switch to WAL. SQLite does not wait by itself while another process does the same."""
    deadline = time.monotonic() + patience
    mode = ""
    while not mode:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreUnavailable(
            f"The database cannot use write-ahead logging (its journal mode is {mode}).",
            hint="Keep the file on a local disk; network file systems do not support it.",
            plugin="store-sqlite",
        )


def execute(connection: sqlite3.Connection, call: Call) -> list[Row]:
    """Run one step of a unit and give all its rows."""
    compiled = call.statement.compiled(SQLITE)
    rows: list[Row] = connection.execute(compiled.text, compiled.bind(call.values)).fetchall()
    return rows


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds the lock."""
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_certain(error: sqlite3.Error) -> bool:
    """Whether a COMMIT that failed so has certainly changed nothing."""
    return is_busy(error) or _primary(error) == sqlite3.SQLITE_FULL or isinstance(error, sqlite3.IntegrityError)


def explain(error: sqlite3.Error, path: Path) -> ServicesError:
    """The typed error for one of SQLite's."""
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict(f"The database refuses the change: {error}.", plugin="store-sqlite")
    if is_busy(error):
        return StoreUnavailable(
            f"The database {path} is locked by another process.",
            hint="Find the process that writes for so long, or raise [store] busy_timeout.",
            plugin="store-sqlite",
        )
    if _primary(error) in (None, sqlite3.SQLITE_ERROR):
        return StoreError(f"SQLite refuses the statement: {error}.", plugin="store-sqlite")
    if not path.exists():
        hint = "Run `go-services store migrate` to make it, or change [store] url."
    elif _primary(error) == sqlite3.SQLITE_FULL:
        hint = "Free space on the disk."
    elif _primary(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        hint = "Restore it from a backup, or change [store] url."
    else:
        hint = "Check the file, its folder and their permissions."
    return StoreUnavailable(f"The database {path} cannot be used: {error}.", hint=hint, plugin="store-sqlite")


def _primary(error: sqlite3.Error) -> int | None:
    """SQLite's primary result code; None when the error is Python's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF
