"""What the database itself refuses in the tables of mappings, syncs and job keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.migrations import migrations

AT = "2026-01-01 00:00:00.000000"
TIMES = {"created_at": AT, "updated_at": AT}
SCOPED = {"provider_id": "kit", "scope_type": "user", "scope_id": "u1"}
BOUND = {**SCOPED, "connection_id": "c1", "sync_binding_id": "b1"}


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    for migration in migrations(SQLITE.name):
        for text in migration.statements:
            connection.execute(text)
    put(
        connection,
        "service_connections",
        **SCOPED,
        **TIMES,
        id="c1",
        external_account_id="a",
        status="active",
        auth_kind="k",
    )
    put(connection, "service_mapping_specs", **spec())
    put(
        connection,
        "service_sync_bindings",
        **SCOPED,
        **TIMES,
        id="b1",
        connection_id="c1",
        mapping_spec_id="m1",
        source_object="s",
        target_model="t",
        direction="in",
        status="active",
    )
    yield connection
    connection.close()


def put(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", list(values.values()))


def spec(**fields: Any) -> dict[str, Any]:
    made = {"id": "m1", "spec_id": "s1", "name": "n", "source_object": "s", "target_model": "t", "version": 1}
    return {**SCOPED, **TIMES, **made, "status": "published", **fields}


def identity(**fields: Any) -> dict[str, Any]:
    made = {"id": "i1", "source_object": "s", "external_id": "e1", "internal_type": "t", "internal_id": "x"}
    return {**BOUND, **TIMES, **made, "match_kind": "exact", **fields}


def conflict(**fields: Any) -> dict[str, Any]:
    made = {"id": "f1", "source_object": "s", "external_id": "e1", "reason": "r", "status": "pending"}
    return {**BOUND, **TIMES, **made, **fields}


def changed(**fields: Any) -> dict[str, Any]:
    made = {"id": "l1", "direction": "in", "source_object": "s", "external_id": "e1", "occurred_at": AT}
    return {**BOUND, **made, "created_at": AT, **fields}


def checkpoint(**fields: Any) -> dict[str, Any]:
    return {**BOUND, **TIMES, "id": "p1", "direction": "in", **fields}


def refused(connection: sqlite3.Connection, table: str, rule: str, **values: Any) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=rule):
        put(connection, table, **values)


def test_one_version_of_a_mapping_is_published(database: sqlite3.Connection) -> None:
    refused(database, "service_mapping_specs", "UNIQUE", **spec(id="m2", version=2))
    put(database, "service_mapping_specs", **spec(id="m2", version=2, status="draft"))
    refused(database, "service_mapping_specs", "UNIQUE", **spec(id="m3", version=2, status="draft"))
    refused(database, "service_mapping_specs", "CHECK", **spec(id="m3", version=0, status="draft"))
    put(database, "service_mapping_specs", **spec(id="m3", scope_id="u2"))


def test_identity_is_bound_once_with_a_confidence_of_0_to_1(database: sqlite3.Connection) -> None:
    table = "service_identity_bindings"
    put(database, table, **identity(confidence=0.5))
    refused(database, table, "UNIQUE", **identity(id="i2"))
    refused(database, table, "CHECK", **identity(id="i2", external_id="e2", confidence=1.5))


@pytest.mark.parametrize(("table", "row"), [("service_sync_conflicts", conflict), ("service_sync_change_log", changed)])
def test_key_is_kept_once_and_blank_keys_are_none(database: sqlite3.Connection, table: str, row: Any) -> None:
    put(database, table, **row(id="1"))
    put(database, table, **row(id="2"))
    put(database, table, **row(id="3", idempotency_key="k"))
    refused(database, table, "UNIQUE", **row(id="4", idempotency_key="k"))


def test_checkpoints_are_numbered_and_conflicts_outlive_them(database: sqlite3.Connection) -> None:
    put(database, "service_sync_checkpoints", **checkpoint())
    refused(database, "service_sync_checkpoints", "UNIQUE", **checkpoint(id="p2"))
    refused(database, "service_sync_checkpoints", "CHECK", **checkpoint(id="p2", sequence_num=-1))
    put(database, "service_sync_conflicts", **conflict(checkpoint_id="p1"))
    database.execute("DELETE FROM service_sync_checkpoints")
    assert database.execute("SELECT checkpoint_id FROM service_sync_conflicts").fetchall() == [(None,)]


def test_everything_goes_with_its_connection(database: sqlite3.Connection) -> None:
    put(database, "service_sync_checkpoints", **checkpoint())
    put(database, "service_identity_bindings", **identity())
    put(database, "service_sync_conflicts", **conflict())
    put(database, "service_sync_change_log", **changed())
    database.execute("DELETE FROM service_connections")
    for table in ("bindings", "checkpoints", "conflicts", "change_log"):
        assert database.execute(f"SELECT count(*) FROM service_sync_{table}").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM service_identity_bindings").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM service_mapping_specs").fetchone() == (1,)


def test_key_of_a_job_is_not_blank_and_needs_its_job(database: sqlite3.Connection) -> None:
    key = {**SCOPED, **TIMES, "id": "k1", "mode": "full", "sync_job_id": "j1"}
    refused(database, "service_sync_job_idempotency", "CHECK", **key, idempotency_key="  ")
    refused(database, "service_sync_job_idempotency", "FOREIGN KEY", **key, idempotency_key="k")
