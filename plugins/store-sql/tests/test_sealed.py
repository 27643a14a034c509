"""How the statements over sealed values find their rows in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from go_services_core.testing.checks.store_sealed import KINDS
from go_services_store_sql import connections, sealed
from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.schema import ddl
from go_services_store_sql.statement import Row, Statement


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for text in ddl(SQLITE):
            connection.execute(text)
        yield connection


def plan(database: sqlite3.Connection, statement: Statement[Row]) -> str:
    compiled = statement.compiled(SQLITE)
    lines = database.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
    return "\n".join(line[-1] for line in lines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", ["any", "under", "except"])
def test_pages_go_on_from_where_the_last_one_ended(
    database: sqlite3.Connection, kind: sealed.SealedKind, choice: sealed.Choice
) -> None:
    key = sealed.PLACES[kind].key
    for statement in (sealed._sizes(kind, choice), sealed._page(kind, choice)):
        text = plan(database, statement)  # type: ignore[arg-type]
        assert f"SEARCH r USING INDEX sqlite_autoindex_{sealed.PLACES[kind].table}_1 ({key}>?)" in text
        assert "SCAN" not in text
        assert "TEMP B-TREE" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_replacing_looks_each_row_up(database: sqlite3.Connection, kind: sealed.SealedKind) -> None:
    place = sealed.PLACES[kind]
    text = plan(database, sealed._replace(kind))
    assert f"SEARCH {place.table} USING INDEX sqlite_autoindex_{place.table}_1 ({place.key}=?)" in text
    assert f"SCAN {place.table}" not in text


def test_unreadable_connections_are_found_by_their_index(database: sqlite3.Connection) -> None:
    statement = connections._listing(frozenset({"secret_state", "unreadable"}))
    text = plan(database, statement)  # type: ignore[arg-type]
    assert "INDEX ix_service_connections_unreadable (id>?)" in text
    assert "TEMP B-TREE" not in text
