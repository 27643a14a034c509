"""The SQLite store against the rules for every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from go_services_core.testing.pytest_kit import StoreKit
from go_services_store_sqlite.store import SqliteStore


class TestSqliteStore(StoreKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SqliteStore]:
        with TemporaryDirectory() as folder:
            store = SqliteStore(Path(folder) / "store.db")
            await store.migrate()
            await store.open()
            yield store
            await store.aclose()
