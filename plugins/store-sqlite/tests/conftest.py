"""An open, migrated store in a folder of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from go_services_store_sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, sqlite_template: Path) -> AsyncIterator[SqliteStore]:
    shutil.copy(sqlite_template, path)
    made = SqliteStore(path, busy_timeout=0.2)
    await made.open()
    yield made
    await made.aclose()
