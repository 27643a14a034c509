"""URLs, files that are not ours, schemas of other releases, migrations."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from go_services_core.clock import SystemClock
from go_services_core.errors import ConfigError, SchemaOutOfDate, SchemaTooNew, StoreError, StoreUnavailable
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.store import established
from go_services_core.testing.checks.store_jobs import job
from go_services_core.testing.checks.store_queues import delivery
from go_services_store_sql import migrations
from go_services_store_sqlite import database
from go_services_store_sqlite.plugin import gs_stores
from go_services_store_sqlite.settings import SqliteSettings, database_path
from go_services_store_sqlite.store import SqliteStore


def test_url_with_three_slashes_is_relative_and_with_four_absolute() -> None:
    assert database_path("sqlite:///data/app.db") == Path.cwd() / "data/app.db"
    assert database_path("sqlite:////var/lib/app.db") == Path("/var/lib/app.db")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///:memory:",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/app.db",
        "sqlite:app.db",
        "sqlite:///folder/",
        "sqlite:///app.db?mode=ro",
        "postgres:///app",
    ],
)
def test_url_that_names_no_file_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        database_path(url)
    assert refused.value.field == "store.url"
    assert "sqlite:////" in str(refused.value.hint)


def test_plugin_module_imports_neither_peewee_nor_sqlite() -> None:
    code = (
        "import sys, go_services_store_sqlite.plugin as plugin; list(plugin.gs_stores());"
        "print(sorted({'peewee', 'sqlite3', 'asyncio', 'go_services_store_sql'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


async def test_store_is_built_from_its_record(tmp_path: Path) -> None:
    (spec,) = gs_stores()
    assert spec.url_schemes == ("sqlite",)
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("kit"), resolve_secret=SecretStr)
    store = spec.factory.resolve()(SqliteSettings(url=f"sqlite:///{tmp_path}/app.db"), env)
    await store.migrate()
    await store.open()
    assert {facet for facet in spec.facets if hasattr(store, facet)} == set(spec.facets)
    await store.aclose()
    assert (tmp_path / "app.db").exists()


async def test_migrate_makes_a_private_file_once(path: Path) -> None:
    store = SqliteStore(path)
    assert [step.applied_at for step in await store.migrate(dry_run=True)] == [None] * 12
    assert list(path.parent.iterdir()) == []
    old = os.umask(0)
    try:
        steps = await store.migrate()
    finally:
        os.umask(old)
    assert [(step.number, step.name) for step in steps] == [
        (1, "initial"),
        (2, "records"),
        (3, "sealed"),
        (4, "refresh"),
        (5, "renewal"),
        (6, "budgets"),
        (7, "inbox"),
        (8, "outbox"),
        (9, "subscriptions"),
        (10, "endpoints"),
        (11, "workers"),
        (12, "pending_events"),
    ]
    assert all(step.applied_at is not None for step in steps)
    assert await store.migrate() == []
    await store.open()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) == 3  # the database, its log and the log's index
    first = store.id
    await store.aclose()
    again = SqliteStore(path)
    await again.open()
    assert again.id == first
    await again.aclose()
    other = SqliteStore(path.with_name("other.db"))
    await other.migrate()
    await other.open()
    assert other.id != first
    await other.aclose()


async def test_status_tells_schema_rows_and_problems(path: Path) -> None:
    store = SqliteStore(path)
    before = await store.status()
    assert (before.schema_version, before.latest_version, len(before.pending)) == (0, 12, 12)
    assert before.problems
    assert list(path.parent.iterdir()) == []
    await store.migrate()
    after = await store.status()
    assert (after.dialect, after.schema_version, after.pending, after.problems) == ("sqlite", 12, (), ())
    assert after.tables["service_connections"] == 0
    open_to_all(path)
    (problem,) = (await store.status()).problems
    assert "chmod 600" in problem


async def test_missing_file_asks_for_migration_and_makes_none(path: Path) -> None:
    with pytest.raises(SchemaOutOfDate, match="migrate"):
        await SqliteStore(path).open()
    assert list(path.parent.iterdir()) == []


async def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere"):
        await SqliteStore(tmp_path / "nowhere" / "app.db").migrate()


async def test_database_of_another_application_is_not_touched_by_opening(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.close()
    before = read(path)
    with pytest.raises(SchemaOutOfDate):
        await SqliteStore(path).open()
    assert read(path) == before


@pytest.mark.parametrize("content", [b"not a database, " * 100, b"SQLite format 3\0" + b"\xff" * 4096])
async def test_file_that_is_no_database_is_refused_and_kept(path: Path, content: bytes) -> None:
    write(path, content)
    store = SqliteStore(path)
    for call in (store.open, store.migrate):
        with pytest.raises(StoreUnavailable) as refused:
            await call()
        assert str(path) in refused.value.message
        assert refused.value.hint
    assert (await store.status()).problems
    assert read(path) == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await SqliteStore(tmp_path).open()


async def test_damage_inside_the_file_is_reported_by_status(path: Path, store: SqliteStore) -> None:
    await store.aclose()
    content = bytearray(read(path))
    content[8192:20480] = b"\xaa" * 12288
    write(path, content)
    assert (await SqliteStore(path).status()).problems


async def test_newer_schema_is_refused(path: Path) -> None:
    store = SqliteStore(path)
    await store.migrate()
    change(path, "INSERT INTO service_migrations VALUES (13, 'tomorrow', 'x', '2030-01-01 00:00:00.000000')")
    before = read(path)
    with pytest.raises(SchemaTooNew, match="0013"):
        await store.open()
    with pytest.raises(SchemaTooNew):
        await store.migrate()
    assert read(path) == before
    status = await store.status()
    assert (status.schema_version, status.latest_version) == (13, 12)
    assert status.problems


async def test_migration_that_was_edited_is_refused(path: Path) -> None:
    store = SqliteStore(path)
    await store.migrate()
    change(path, "UPDATE service_migrations SET checksum = 'edited'")
    with pytest.raises(StoreError, match="another text"):
        await store.open()


async def test_older_schema_is_refused(path: Path) -> None:
    store = SqliteStore(path)
    await store.migrate()
    change(path, "DELETE FROM service_migrations")
    with pytest.raises(SchemaOutOfDate, match="0001"):
        await store.open()


async def test_database_of_schema_1_keeps_its_rows(path: Path) -> None:
    known = migrations.migrations("sqlite")
    old = SqliteStore(path)
    await old.migrate()
    await old.open()
    made = await established(old)
    await old.queues.accept(delivery())
    store_id = old.id
    while (await old.admin.down()).number > 2:
        pass
    await old.aclose()
    store = SqliteStore(path)
    with pytest.raises(SchemaOutOfDate, match=r"0002 \(records\)"):
        await store.open()
    assert [step.number for step in await store.migrate()] == [migration.number for migration in known[1:]]
    await store.open()
    assert store.id == store_id
    connection, credential = await store.connections.load(made.id)
    assert (connection, credential is not None) == (made, True)
    assert (await store.queues.accept(delivery())).duplicate
    assert (await store.queues.enqueue(job("k", connection_id=made.id)))[1]
    assert (await store.status()).problems == ()
    await store.aclose()


async def test_migration_that_fails_leaves_nothing(path: Path) -> None:
    change(path, "CREATE TABLE service_meta (theirs)")
    with pytest.raises(StoreError, match="service_meta"):
        await SqliteStore(path).migrate()
    reader = sqlite3.connect(path)
    assert reader.execute("SELECT name FROM sqlite_master").fetchall() == [("service_meta",)]
    reader.close()


async def test_old_sqlite_library_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    write(path, b"")
    with pytest.raises(StoreUnavailable, match=r"3\.35"):
        database.connect(path, write=False, busy_timeout=0)


def change(path: Path, text: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(text)
    connection.close()


def open_to_all(path: Path) -> None:
    path.chmod(0o644)


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes | bytearray) -> None:
    path.write_bytes(content)
