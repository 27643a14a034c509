"""The PostgreSQL store against the rules for every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from go_services_core.testing.pytest_kit import StoreKit
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


class TestPostgresStore(StoreKit):
    @pytest.fixture(autouse=True)
    def _database(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[PostgresStore]:
        store = PostgresStore(PostgresSettings(url=self.url))
        await store.open()
        yield store
        await store.aclose()
