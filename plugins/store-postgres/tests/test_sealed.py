"""How PostgreSQL goes through sealed values: along the primary key, whatever its statistics say."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from go_services_core.testing.checks.store_sealed import KINDS, listed, one_of_each, other
from go_services_core.wrapping_keys import SealedRow
from go_services_store_postgres.store import PostgresStore
from go_services_store_sql import connections, sealed
from go_services_store_sql.dialect import POSTGRES, Json
from go_services_store_sql.statement import Row, Statement

FILL = """
INSERT INTO service_connections (id, provider_id, scope_type, scope_id, external_account_id, status, auth_kind,
  created_at, updated_at)
SELECT 'c' || md5(n::text), 'kit', 'user', 'u1', n::text, 'active', 'kit', now(), now()
FROM generate_series(1, 20000) AS n;
INSERT INTO service_credentials (id, connection_id, version, encrypted_payload, token_type, refreshable, status,
  encryption_backend, encryption_key_id, created_at, updated_at)
SELECT 'k' || md5(n::text), 'c' || md5(n::text), 1, decode(repeat('00', 600), 'hex'), 'kit', true, 'active', 'kit',
  'key-1', now(), now()
FROM generate_series(1, 20000) AS n;
ANALYZE service_connections, service_credentials;
"""


def plan(connection: psycopg.Connection[Row], statement: Statement[Row], values: dict[str, object]) -> str:
    compiled = statement.compiled(POSTGRES)
    found = connection.execute(f"EXPLAIN {compiled.text}".encode(), compiled.bind(values)).fetchall()
    return "\n".join(line for (line,) in found)


@pytest.mark.parametrize("choice", ["any", "under", "except"])
def test_pages_walk_the_primary_key_also_where_statistics_know_no_such_key(url: str, choice: sealed.Choice) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        for key in ("key-1", "key-2"):  # all rows and none, as the statistics have it
            values = {"after": "k4", "backend": "kit", "key_id": key, "key_version": 1, "rows": 500}
            for statement in (sealed._sizes("credential", choice), sealed._page("credential", choice)):
                text = plan(connection, statement, values)  # type: ignore[arg-type]
                assert "Index Scan using service_credentials_pkey" in text
                assert "Seq Scan" not in text
                assert "Sort" not in text


def test_unreadable_connections_are_found_by_their_index(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        statement = connections._listing(frozenset({"secret_state", "unreadable"}))
        text = plan(connection, statement, {"secret_state": "unreadable", "after": "", "rows": 100})  # type: ignore[arg-type]
        assert "ix_service_connections_unreadable" in text


async def test_many_values_are_replaced_by_two_statements(store: PostgresStore) -> None:
    for _ in range(20):
        await one_of_each(store)
    for kind in KINDS:
        rows = await listed(store, kind)
        seen: list[str] = []
        store.trace(seen.append)
        assert list(await store.sealed.replace([other(row) for row in rows])) == []
        store.trace(None)
        assert [text.split()[0] for text in seen] == ["BEGIN", "SELECT", "UPDATE", "COMMIT"]


def test_replacing_looks_each_row_up(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        values = {"given": Json([{"id": "k1"}]), "before": b"", "after": b""}
        text = plan(connection, sealed._replace("credential"), values)
        assert "Index Scan using service_credentials_pkey" in text
        assert "Seq Scan" not in text


@pytest.mark.parametrize("kind", KINDS)
async def test_replacing_that_waits_for_its_first_row_holds_no_other(
    url: str, store: PostgresStore, kind: sealed.SealedKind
) -> None:
    """So that no two of them, and no disconnect beside one, ever wait for each other."""
    for _ in range(12):
        await one_of_each(store)
    rows = await listed(store, kind)
    place = sealed.PLACES[kind]
    table, column = ("service_connections", "id") if kind in ("credential", "intent") else (place.table, place.key)
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        first = f"WHERE {column} = (SELECT min({column}) FROM {table})"
        # Moved to the end of the table's file, where a lock without an order would come last.
        watcher.execute(f"UPDATE {table} SET {column} = {column} {first}".encode())
        holder.execute(f"SELECT 1 FROM {table} ORDER BY {column} LIMIT 1 FOR UPDATE".encode())
        replacing = asyncio.create_task(_replace(store, rows))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with asyncio.timeout(30):
            while watcher.execute(waiting.encode()).fetchone() != (1,):
                await asyncio.sleep(0.01)
        for held in {table, place.table}:
            locked = holder.execute(f"SELECT 1 FROM {held} FOR UPDATE NOWAIT".encode()).fetchall()
            assert len(locked) == 12
        holder.rollback()
        assert await replacing == []


async def _replace(store: PostgresStore, rows: list[SealedRow]) -> list[str]:
    return list(await store.sealed.replace([other(row) for row in reversed(rows)]))
