"""What every test of the workspace may use."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from go_services_core.live_secrets import LIVE
from go_services_core.testing.postgres import PostgresServer, Unavailable, postgres_server

REQUIRED = "GO_SERVICES_REQUIRE_INTEGRATION"
MEMORY = Path("/dev/shm")  # noqa: S108  Linux's own place for files in memory
ROOM = 4 << 30
"""Bytes that must be free there."""


def pytest_configure() -> None:
    """Keep temporary files in memory, where there is room: tests kill processes, but never take a machine's power.

    A database syncs as often as on a disk, and does not wait for it. ``TMPDIR`` decides otherwise.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    takes_programs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    if takes_programs and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


class Chaos:
    """How often a kill test kills: a few times, or the full count under ``make chaos`` (``CHAOS=1``).

    The seed is printed, and pytest shows it when the test fails; ``CHAOS_SEED`` repeats a run.
    """

    def __init__(self) -> None:
        self.seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**32))
        self.random = random.Random(self.seed)  # noqa: S311  reproducible on purpose
        self._full = os.environ.get("CHAOS") == "1"
        print(f"CHAOS_SEED={self.seed}")

    def rounds(self, few: int, full: int) -> int:
        """``few``, or ``full`` under ``make chaos``."""
        return full if self._full else few


@pytest.fixture
def chaos() -> Chaos:
    return Chaos()


@pytest.fixture(autouse=True)
def _no_live_secrets() -> None:
    """What one test handled as a secret is not masked in the texts of the next."""
    LIVE.known, LIVE.generations = set(), ([], [])


def _run(work: Coroutine[Any, Any, object]) -> None:
    """In a thread: an asynchronous fixture may be what asks."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def database_server() -> Iterator[PostgresServer]:
    """The PostgreSQL server of all tests of this process."""
    try:
        with postgres_server() as running:
            yield running
    except Unavailable as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but {reason}")
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def postgres_template(database_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated PostgreSQL database to copy."""
    import psycopg

    from go_services_store_postgres.settings import PostgresSettings
    from go_services_store_postgres.store import PostgresStore

    name = f"go_services_{os.getpid()}_template"
    with psycopg.connect(database_server.base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        _run(PostgresStore(PostgresSettings(url=database_server.url(name))).migrate())
        yield name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy."""
    from go_services_store_sqlite.store import SqliteStore

    path = tmp_path_factory.mktemp("template") / "store.db"

    async def migrated() -> None:
        store = SqliteStore(path)
        await store.migrate()
        await store.aclose()

    _run(migrated())
    return path
