"""``go-services store``: what operators do with the database."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from go_services_core.testing.go_database import statements

from .conftest import Install, Run


def sql(*texts: str, path: str = "go-services.db") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[tuple[Any, ...]] = []
        for text in texts:
            rows = connection.execute(text).fetchall()
    return rows


@pytest.fixture
def go_database(run: Run, folder: Path) -> Path:
    """A configuration whose database is the Go system's."""
    run("init")
    sql(*statements("sqlite"))
    return folder / "go-services.db"


def test_plan_prints_sql_that_makes_the_schema(run: Run, folder: Path) -> None:
    run("init")
    plan = run("store", "migrate", "--plan").stdout
    assert plan.startswith("-- 0001 initial\nCREATE TABLE")
    assert not (folder / "go-services.db").exists()
    listed = json.loads(run("store", "migrate", "--plan", "--json").stdout)["migrations"]
    assert [step["number"] for step in listed] == list(range(1, len(listed) + 1))
    with closing(sqlite3.connect("by-hand.db")) as connection:
        connection.executescript(plan)
        made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    run("store", "migrate")
    assert sql("SELECT count(*) FROM sqlite_master") == [made]
    assert run("store", "migrate", "--plan").stdout == "-- The database is up to date.\n"


def test_status_shows_rows_and_bytes_of_each_table(run: Run, ready: Path) -> None:
    status = json.loads(run("store", "status", "--json").stdout)
    assert status["tables"]["service_meta"] >= 1
    assert set(status["bytes"]) == set(status["tables"])
    assert all(size > 0 for size in status["bytes"].values())
    assert "1 row, 8 KiB" in run("store", "status").stdout


def test_verify_names_what_is_wrong_and_fails(run: Run, ready: Path) -> None:
    assert run("store", "verify").stdout == "The database is as it must be.\n"
    assert json.loads(run("store", "verify", "--json").stdout) == {"problems": []}
    sql("DROP INDEX ix_service_connections_scope")
    assert "index ix_service_connections_scope is missing" in run("store", "verify", code=1).stdout
    assert len(json.loads(run("store", "verify", "--json", code=1).stdout)["problems"]) == 1


def test_verify_without_a_database_says_what_to_do(run: Run, folder: Path) -> None:
    run("init")
    assert "store migrate" in run("store", "verify", code=1).stderr


def test_database_of_the_go_system_is_not_migrated_but_adopted(run: Run, go_database: Path) -> None:
    assert "store adopt" in run("store", "status", code=1).stdout
    assert "store adopt" in run("store", "migrate", code=1).stderr
    before = go_database.read_bytes()
    dry = run("store", "adopt", "--dry-run")
    assert dry.stdout.endswith("It can be adopted; nothing was changed.\n")
    assert "service_credentials: 4 rows" in dry.stderr
    assert "service_connections: 2 are taken for oauth2_auth_code; --auth says otherwise" in dry.stdout.splitlines()
    assert go_database.read_bytes() == before
    report = json.loads(run("store", "adopt", "--apply", "--auth", "github=pat", "--json").stdout)
    assert {"name": "service_sync_cursors", "rows": 1, "changed": 0, "note": ""} in report["tables"]
    run("store", "verify")
    assert sql("SELECT DISTINCT auth_kind FROM service_connections WHERE provider_id = 'github'") == [("pat",)]
    assert "already" in run("store", "adopt", "--apply", code=1).stderr


@pytest.mark.parametrize("arguments", [(), ("--dry-run", "--apply"), ("--apply", "--auth", "github")])
def test_adopt_wants_one_clear_wish(run: Run, go_database: Path, arguments: tuple[str, ...]) -> None:
    run("store", "adopt", *arguments, code=2)
    assert sql("SELECT count(*) FROM sqlite_master WHERE name = 'service_meta'") == [(0,)]


def test_prune_removes_what_is_older_than_the_age(run: Run, ready: Path) -> None:
    sql(
        "INSERT INTO service_replay_ledger VALUES ('a', '2026-01-01 00:00:00.000000'), ('b', '2999-01-01 00:00:00.000000')"
    )
    assert run("store", "prune", "--older-than", "90d", "--dry-run").stdout == "Would remove 1 row.\n"
    pruned = run("store", "prune", "--older-than", "0s", "--table", "service_replay_ledger")
    assert (pruned.stdout, pruned.stderr) == ("Removed 1 row.\n", "service_replay_ledger: 1 row\n")
    assert sql("SELECT key FROM service_replay_ledger") == [("b",)]
    assert json.loads(run("store", "prune", "--older-than", "0s", "--json").stdout)["dry_run"] is False


def test_prune_keeps_keyed_calls_for_as_long_as_providers_remember_keys(run: Run, ready: Path) -> None:
    columns = "(key, kind, digest, status, fence, created_at, updated_at)"
    for key, hours in (("old", 25), ("new", 23)):
        at = f"strftime('%Y-%m-%d %H:%M:%f', 'now', '-{hours} hours') || '000'"
        sql(f"INSERT INTO service_idempotency {columns} VALUES ('{key}', 'operation', x'00', 'done', 1, {at}, {at})")
    run("store", "prune", "--older-than", "0s")
    assert sql("SELECT key FROM service_idempotency") == [("new",)]


@pytest.mark.parametrize("arguments", [("--older-than", "soon"), (), ("--older-than", "1d", "--table", "service_meta")])
def test_prune_refuses_what_it_does_not_understand(run: Run, ready: Path, arguments: tuple[str, ...]) -> None:
    run("store", "prune", *arguments, code=2)


def test_vacuum_makes_the_file_smaller(run: Run, ready: Path) -> None:
    sql(
        "CREATE TABLE app_big AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
        " SELECT randomblob(4000) FROM n",
        "DROP TABLE app_big",
    )
    size = Path("go-services.db").stat().st_size
    (estimate,) = json.loads(run("store", "vacuum", "--dry-run", "--json").stdout)["sizes"]
    assert Path("go-services.db").stat().st_size == size
    (done,) = json.loads(run("store", "vacuum", "--json").stdout)["sizes"]
    assert done["after"] <= estimate["after"] < done["before"]
    assert Path("go-services.db").stat().st_size == done["after"]


def test_down_undoes_the_last_migration_and_spares_rows(run: Run, ready: Path) -> None:
    last = json.loads(run("store", "status", "--json").stdout)["latest_version"]
    assert run("store", "down", "--dry-run").stdout.startswith(f"Would undo {last} ")
    while last > 4:
        run("store", "down")  # these hold nothing yet
        last -= 1
    sql(
        "INSERT INTO service_refresh_intents (id, connection_id, version, resource, fence, sent_at, payload)"
        " VALUES ('i', 'c', 1, 'refresh:c', 1, '2026-01-01 00:00:00.000000', x'01')"
    )
    assert "1 of service_refresh_intents" in run("store", "down", code=1).stderr
    assert json.loads(run("store", "status", "--json", code=1).stdout)["schema_version"] == last
    run("store", "down", "--force")
    assert json.loads(run("store", "status", "--json", code=1).stdout)["schema_version"] == last - 1
    run("store", "migrate")
    run("store", "verify")


def test_store_without_administration_is_named(run: Run, folder: Path, install: Install) -> None:
    install(
        "store-kit",
        """
        from go_services_core.hookspecs import hookimpl
        from go_services_core.refs import Ref
        from go_services_core.specs import StoreSpec

        GS_CONTRACT = 1

        @hookimpl
        def gs_stores():
            yield StoreSpec(
                id="store-kit",
                url_schemes=("kit",),
                factory=Ref(f"{__name__}:open_store"),
                facets=("connections", "queues", "once"),
            )

        class Plain:
            async def aclose(self): pass

        def open_store(settings, env):
            return Plain()
        """,
    )
    Path("go-services.toml").write_text('[store]\nurl = "kit://here"\n')
    assert "Plain offers no administration" in run("store", "verify", code=1).stderr
