"""One source, two dialects: every statement has a text in both, and the migrations go in step."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3

import pytest

import go_services_store_sql
from go_services_store_sql import connections
from go_services_store_sql.dialect import POSTGRES, SQLITE, Dialect, Json
from go_services_store_sql.migrations import migrations
from go_services_store_sql.statement import Row, Statement

DIALECTS = (SQLITE, POSTGRES)


def statements() -> dict[str, Statement[object]]:
    """Every statement of the library, by module and name."""
    found = {}
    for module in pkgutil.walk_packages(go_services_store_sql.__path__, "go_services_store_sql."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Statement):
                found[f"{module.name}.{name}"] = value
    return found


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_statement_has_a_text_with_as_many_places_as_values(dialect: Dialect) -> None:
    assert len(statements()) > 40
    for name, statement in statements().items():
        compiled = statement.compiled(dialect)
        assert "@" not in compiled.text, name
        assert not re.search(r"(?<!:):[a-z]", compiled.text.replace("'%Y-%m-%d %H:%M:%f'", "")), name
        assert compiled.text.count(dialect.placeholder) == len(compiled.places), name


def test_both_dialects_take_the_same_values() -> None:
    module = "go_services_store_sql."  # where PostgreSQL's claims begin
    alone = {f"{module}outbox.LOOK": {"after"}, f"{module}inbox.CLAIM": {"due_from"}}
    for name, statement in statements().items():
        both = [set(statement.compiled(dialect).places) - alone.get(name, set()) for dialect in DIALECTS]
        assert "" in (statement.compiled(SQLITE).text, statement.compiled(POSTGRES).text) or both[0] == both[1], name


def test_migrations_of_both_dialects_have_the_same_numbers_and_names() -> None:
    steps = [[(migration.number, migration.name) for migration in migrations(dialect.name)] for dialect in DIALECTS]
    assert steps[0] == steps[1]
    assert [number for number, _ in steps[0]] == list(range(1, len(steps[0]) + 1))


def test_postgres_has_its_own_placeholders_clock_and_json() -> None:
    statement: Statement[Row] = Statement("SELECT :data WHERE a <= @now AND b > @later(seconds) AND @remaining(c) > 0")
    compiled = statement.compiled(POSTGRES)
    assert compiled.text.startswith("SELECT %s WHERE a <= statement_timestamp() AND b > (statement_timestamp()")
    assert compiled.bind({"data": Json({"ü": [None]}), "seconds": 1.5}) == ['{"ü":[null]}', 1.5]


def test_cast_is_not_taken_for_a_value() -> None:
    statement: Statement[Row] = Statement({"postgres": "SELECT :held::jsonb, a::integer"})
    assert statement.compiled(POSTGRES).text == "SELECT %s::jsonb, a::integer"


def test_step_that_a_dialect_does_without_is_an_empty_text_and_runs() -> None:
    connection = sqlite3.connect(":memory:")
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    compiled = connections.LOCK.compiled(SQLITE)
    assert connection.execute(compiled.text, compiled.bind({"connection_id": "c"})).fetchall() == []
    assert seen == []
    connection.close()
