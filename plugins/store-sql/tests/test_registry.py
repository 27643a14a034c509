"""Migrations offered to an application's own runner."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from go_services_core.errors import BadInput, NotFound, StoreError
from go_services_store_sql import migrations, registry
from go_services_store_sql.catalog import Schema, actual
from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.driver import drive
from go_services_store_sql.migrations import check
from go_services_store_sql.registry import Filesystem, filesystems, register, source_descriptor
from go_services_store_sql.statement import Call, Row
from go_services_store_sql.verify import verify_oauth_schema, verify_schema


def offered(dialect: str) -> Filesystem:
    return next(item for item in filesystems() if item.dialect == dialect)


def test_postgres_is_offered_before_sqlite() -> None:
    seen: list[tuple[str, str]] = []
    done = register(lambda dialect, label, filesystem: seen.append((dialect, label)))
    assert seen == [("postgres", "go-services"), ("sqlite", "go-services")]
    assert (done.targets, done.source_label) == (("postgres", "sqlite"), "go-services")
    assert [item.dialect for item in done.filesystems] == ["postgres", "sqlite"]


def test_targets_take_aliases_in_any_case_and_order_once() -> None:
    done = register(lambda *_: None, targets=["SQLite3", "sqlite", "PG"], source_label=" app ")
    assert (done.targets, done.source_label) == (("postgres", "sqlite"), "app")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"targets": []}, "targets"),
        ({"targets": ["oracle"]}, "dialect"),
        ({"source_label": " "}, "source_label"),
        ({"offered": []}, "offered"),
        ({"callback": None}, "callback"),
    ],
)
def test_what_cannot_be_registered_is_refused_before_the_callback(given: dict[str, object], field: str) -> None:
    called: list[object] = []
    with pytest.raises(BadInput) as refused:
        register(**{"callback": lambda *given: called.append(given), **given})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert not called


def test_target_without_a_file_system_is_named() -> None:
    with pytest.raises(BadInput, match="target postgres"):
        register(lambda *_: None, offered=[offered("sqlite")])


def test_failure_of_the_callback_names_dialect_and_path() -> None:
    def fail(dialect: str, label: str, filesystem: Filesystem) -> None:
        raise OSError("no room")

    with pytest.raises(StoreError, match=r"sqlite migrations in .*migrations failed: no room") as failed:
        register(fail, targets=["sqlite"])
    assert isinstance(failed.value.__cause__, OSError)


@pytest.mark.parametrize("alias", ["pg", "postgres", "postgresql", "PostgreSQL "])
def test_descriptor_knows_the_aliases_of_postgres(alias: str) -> None:
    found = source_descriptor(alias)
    assert (found.name, found.key, found.label, found.dialect) == (*["go-services"] * 3, "postgres")
    assert found.validation_targets == ("postgres",)
    assert (found.root / "0001_initial.postgres.sql").is_file()


def test_unsupported_dialect_is_refused() -> None:
    with pytest.raises(BadInput, match="'oracle' is an unsupported dialect"):
        source_descriptor("oracle")
    with pytest.raises(BadInput, match="unsupported dialect"):
        verify_schema(sqlite3.connect(":memory:"), "oracle")


def test_root_without_files_for_a_dialect_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_own.postgres.sql").write_text("CREATE TABLE own (id TEXT);\n")
    with pytest.raises(NotFound, match=f"sqlite in {folder}"):
        filesystems(tmp_path)
    (folder / "0001_own.sqlite.sql").write_text("CREATE TABLE own (id TEXT);\n")
    assert [script.name for script in filesystems(tmp_path)[1].scripts()] == ["own"]
    assert [item.path for item in filesystems(folder)] == [folder, folder]


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_migration_has_a_way_back(dialect: str) -> None:
    for script, migration in zip(offered(dialect).scripts(), migrations.migrations(dialect), strict=True):
        assert (script.number, script.name) == (migration.number, migration.name)
        assert list(script.up[: len(migration.statements)]) == migration.statements
        assert script.down[0].endswith(f"WHERE number = {script.number}")
        assert any(statement.startswith(("DROP TABLE", "DROP INDEX")) for statement in script.down)


def test_store_opens_after_a_foreign_runner_ran_the_files(tmp_path: Path) -> None:
    written = offered("sqlite").write(tmp_path / "sqlite")
    ups = [path for path in written if path.name.endswith(".up.sql")]
    with closing(sqlite3.connect(":memory:")) as connection:

        def execute(call: Call) -> list[Row]:
            compiled = call.statement.compiled(SQLITE)
            return connection.execute(compiled.text, compiled.bind(call.values)).fetchall()

        for path in ups:
            connection.executescript(path.read_text())
        assert len(drive(lambda: check(SQLITE), execute)) == 32
        verify_schema(connection, "sqlite")
        for path in reversed(written):
            if path.name.endswith(".down.sql"):
                connection.executescript(path.read_text())
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_way_back_ends_where_the_migration_began() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:

        def schema() -> Schema:
            return drive(
                lambda: actual(SQLITE), lambda call: connection.execute(call.statement.compiled(SQLITE).text).fetchall()
            )

        for script in offered("sqlite").scripts():
            before = schema()
            for statement in (*script.up, *script.down):
                connection.execute(statement)
            assert schema() == before
            for statement in script.up:
                connection.execute(statement)


def test_schema_on_an_applications_connection_is_verified() -> None:
    with pytest.raises(BadInput, match="open connection"):
        verify_schema(None, "sqlite")
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(StoreError) as empty:
            verify_schema(connection, "sqlite")
        assert "table service_connections is missing" in str(empty.value)
        for script in offered("sqlite").scripts():
            for statement in script.up:
                connection.execute(statement)
        connection.execute("ALTER TABLE service_leases DROP COLUMN fence")
        verify_oauth_schema(connection, "sqlite3")
        with pytest.raises(StoreError, match="service_leases: column fence is missing"):
            verify_schema(connection, "sqlite3")


def test_public_names_are_there() -> None:
    assert all(hasattr(registry, name) for name in registry.__all__)
    assert files(migrations.__name__).is_dir()
