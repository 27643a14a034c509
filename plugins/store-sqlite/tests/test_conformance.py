"""The SQLite store against the rules for every store."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from go_services_core.testing.pytest_kit import StoreKit
from go_services_store_sqlite.store import SqliteStore


class TestSqliteStore(StoreKit):
    @pytest.fixture(autouse=True)
    def _template(self, sqlite_template: Path) -> None:
        self.template = sqlite_template

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[SqliteStore]:
        with TemporaryDirectory() as folder:
            store = SqliteStore(Path(shutil.copy(self.template, folder)))
            await store.open()
            yield store
            await store.aclose()
