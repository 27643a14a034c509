"""Verification of a real file: schema and rows."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from go_services_core.errors import Conflict, NotFound, SchemaOutOfDate
from go_services_store_sqlite.store import SqliteStore

TIME = "2026-01-01 00:00:00.000000"
CONNECTION = f"""INSERT INTO service_connections (id, provider_id, scope_type, scope_id, external_account_id, status,
  auth_kind, created_at, updated_at) VALUES ('c', 'p', 'user', 'u', 'a', 'active', 'pat', '{TIME}', '{TIME}')"""
CREDENTIAL = f"""INSERT INTO service_credentials (id, connection_id, version, encrypted_payload, token_type, refreshable,
  status, created_at, updated_at) VALUES ('k', 'c', 1, x'01', 'pat', 0, 'active', '{TIME}', '{TIME}')"""
EVENT = f"""INSERT INTO service_lifecycle_outbox (id, event_id, event_name, provider_id, scope_type, scope_id, status,
  occurred_at, created_at, updated_at) VALUES ('e', 'e', 'n', 'p', 'user', 'u', 'delivered', '{TIME}', '{TIME}', '{TIME}')"""
DELIVERY = f"""INSERT INTO service_event_deliveries (event_id, handler, status, updated_at)
  VALUES ('e', 'h', 'dead', '{TIME}')"""
SUBSCRIPTION = f"""INSERT INTO service_subscriptions (id, connection_id, provider_id, resource_type, resource_id,
  channel_id, callback_url, status, verification_token, created_at, updated_at)
  VALUES ('s', 'c', 'p', 't', 'r', 'ch', 'https://app.example', 'active', x'01', '{TIME}', '{TIME}')"""
JOB = f"""INSERT INTO service_sync_jobs (id, provider_id, mode, status, created_at, updated_at)
  VALUES ('j', 'p', 'full', 'queued', '{TIME}', '{TIME}')"""


@pytest.fixture
async def made(path: Path) -> SqliteStore:
    store = SqliteStore(path, busy_timeout=0.2)
    await store.migrate()
    return store


def execute(path: Path, *texts: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for text in texts:
            connection.execute(text)


def rewrite(path: Path, table: str, old: str, new: str) -> None:
    """Make ``table`` again with other text."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (text,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
        assert old in text
        connection.execute(f"DROP TABLE {table}")
        connection.execute(text.replace(old, new))


async def test_migrated_database_has_no_problem(made: SqliteStore) -> None:
    assert await made.admin.verify() == []


async def test_verification_neither_waits_for_a_writer_nor_holds_one_up(made: SqliteStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(CONNECTION)
        assert await made.admin.verify() == []
        writer.execute("COMMIT")
    assert [size.rows for size in await made.admin.sizes() if size.name == "service_connections"] == [1]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE service_leases", "table service_leases is missing"),
        ("ALTER TABLE service_leases DROP COLUMN owner", "service_leases: column owner is missing"),
        ("ALTER TABLE service_leases ADD COLUMN extra TEXT", "service_leases: column extra is not ours"),
        ("DROP INDEX uq_service_credentials_active", "unique index uq_service_credentials_active is missing"),
        ("CREATE UNIQUE INDEX own ON service_leases (owner)", "service_leases: unique index own is not ours"),
    ],
)
async def test_difference_of_the_schema_is_named(made: SqliteStore, path: Path, damage: str, said: str) -> None:
    execute(path, damage)
    assert any(said in problem for problem in await made.admin.verify())


@pytest.mark.parametrize(
    ("table", "old", "new", "said"),
    [
        ("service_leases", '"fence" INTEGER NOT', '"fence" TEXT NOT', "fence is TEXT not null, not INTEGER not null"),
        ("service_leases", '"fence" INTEGER NOT NULL', '"fence" INTEGER', "fence is INTEGER nullable"),
        ("service_leases", "TEXT NOT NULL PRIMARY KEY", "TEXT NOT NULL", "service_leases: primary key is missing"),
        ("service_sync_cursors", "CASCADE", "SET NULL", "foreign key (connection_id) is"),
        ("service_sync_job_idempotency", " DEFERRABLE INITIALLY DEFERRED", "", "foreign key (sync_job_id) is"),
        ("service_subscriptions", "DEFAULT '{}'", "DEFAULT '[]'", "column metadata is TEXT not null default '[]', not"),
        ("service_grant_snapshots", "CHECK (version > 0)", "", "check (version > 0) is missing"),
        ("service_grant_snapshots", "version > 0", "version > 1", "check (version > 1) is not ours"),
    ],
)
async def test_difference_in_the_text_of_a_table_is_named(
    made: SqliteStore, path: Path, table: str, old: str, new: str, said: str
) -> None:
    rewrite(path, table, old, new)
    assert any(said in problem for problem in await made.admin.verify())


async def test_condition_of_an_index_counts(made: SqliteStore, path: Path) -> None:
    execute(
        path,
        "DROP INDEX uq_service_credentials_active",
        "CREATE UNIQUE INDEX uq_service_credentials_active ON service_credentials (connection_id) WHERE status = 'x'",
    )
    (problem,) = await made.admin.verify()
    assert "(connection_id) WHERE status = 'x'`, not `service_credentials (connection_id) WHERE status" in problem


async def test_trigger_that_is_gone_is_missing(made: SqliteStore, path: Path) -> None:
    execute(path, "DROP TRIGGER tr_service_lifecycle_outbox_pending")
    said = "table service_lifecycle_outbox: trigger tr_service_lifecycle_outbox_pending is missing"
    assert await made.admin.verify() == [said]


async def test_further_index_and_table_do_no_harm(made: SqliteStore, path: Path) -> None:
    execute(path, "CREATE INDEX own ON service_leases (owner)", "CREATE TABLE app_own (id TEXT)")
    assert await made.admin.verify() == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([CREDENTIAL], "1 credentials without their connection"),
        ([CONNECTION, CREDENTIAL, "UPDATE service_connections SET status = 'disconnected'"], "1 disconnected conn"),
        (
            [
                "DROP INDEX uq_service_credentials_active",
                CONNECTION,
                CREDENTIAL,
                CREDENTIAL.replace("'k', 'c', 1", "'l', 'c', 2"),
                "CREATE UNIQUE INDEX uq_service_credentials_active ON service_credentials (connection_id) WHERE version=0",
            ],
            "1 connections with more than one active credential",
        ),
        ([CONNECTION, "UPDATE service_connections SET secret_state = 'odd'"], "1 connections whose secret is neither"),
        ([CONNECTION, SUBSCRIPTION], "1 verification tokens of subscriptions that say no key"),
        (
            [DELIVERY],
            "1 deliveries to handlers without their event",
        ),
        (["INSERT INTO service_pending_events VALUES ('e', NULL)"], "1 events to hand out that do not exist"),
        ([CONNECTION, "UPDATE service_connections SET status = 'odd'"], "service_connections with an unknown status"),
        ([CONNECTION, "UPDATE service_connections SET scope_type = 'team'"], "service_connections with a scope"),
        ([CONNECTION, "UPDATE service_connections SET created_at = '2026-01-01T00:00:00Z'"], "with a time that is not"),
        ([EVENT, "UPDATE service_lifecycle_outbox SET payload = '{'"], "with a value that is not JSON"),
        ([JOB], "1 rows of service_sync_jobs that are waiting and never due"),
    ],
)
async def test_rows_that_make_no_sense_are_counted(made: SqliteStore, path: Path, rows: list[str], said: str) -> None:
    execute(path, *rows)
    assert any(said in problem for problem in await made.admin.verify())


async def test_damaged_page_is_found(made: SqliteStore, path: Path) -> None:
    execute(path, CONNECTION, "PRAGMA wal_checkpoint(TRUNCATE)")
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_service_connections_scope'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x0a\x00\x00\x00\x00\x10\x00\x00")  # an index page without cells
    assert any("ix_service_connections_scope" in problem for problem in await made.admin.verify())


async def test_pending_migration_is_all_that_is_said(path: Path) -> None:
    execute(path, "CREATE TABLE app_own (id TEXT)")
    problems = await SqliteStore(path).admin.verify()
    assert problems[0] == "migration 0001 (initial) is pending"
    assert all(problem.endswith("is pending") for problem in problems)


async def test_down_walks_back_to_an_empty_database(made: SqliteStore, path: Path) -> None:
    numbers = []
    while True:
        try:
            numbers.append((await made.admin.down()).number)
        except NotFound:
            break
    assert numbers == [step.number for step in reversed(await made.migrate())]
    assert await made.admin.verify() == []


async def test_down_keeps_rows_unless_forced(made: SqliteStore, path: Path) -> None:
    while (await made.admin.down(dry_run=True)).number > 1:
        await made.admin.down()
    execute(path, CONNECTION)
    with pytest.raises(Conflict, match="1 of service_connections"):
        await made.admin.down()
    assert [size.rows for size in await made.admin.sizes() if size.name == "service_connections"] == [1]
    await made.admin.down(force=True)
    assert await made.admin.sizes() == []


async def test_without_a_file_nothing_is_made(path: Path) -> None:
    store = SqliteStore(path)
    assert await store.admin.sizes() == []
    assert [step.number for step in await store.admin.plan()][:1] == [1]
    with pytest.raises(SchemaOutOfDate):
        await store.admin.verify()
    assert path.name not in os.listdir(path.parent)  # noqa: PTH208
