"""How statements are written and bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from go_services_store_sql.credentials import COLUMNS, INSERT_CREDENTIAL
from go_services_store_sql.dialect import SQLITE, Json, read_json, read_time, time_text
from go_services_store_sql.driver import drive
from go_services_store_sql.statement import Call, Row, Statement, Steps


def test_named_values_become_placeholders_in_order() -> None:
    statement: Statement[Row] = Statement("SELECT :b, :a, :b, 'two  spaces' || '12:30'")
    compiled = statement.compiled(SQLITE)
    assert compiled.text == "SELECT ?, ?, ?, 'two  spaces' || '12:30'"
    assert compiled.bind({"a": 1, "b": 2}) == [2, 1, 2]


def test_statement_is_compiled_once() -> None:
    assert INSERT_CREDENTIAL.compiled(SQLITE) is INSERT_CREDENTIAL.compiled(SQLITE)


def test_query_of_peewee_keeps_its_tail_and_names() -> None:
    text = INSERT_CREDENTIAL.compiled(SQLITE).text
    assert text.startswith('INSERT INTO "service_credentials" ("id", "connection_id", ')
    assert text.endswith("ON CONFLICT (connection_id, version) DO NOTHING RETURNING id")


def test_clock_and_columns_are_written_out() -> None:
    statement: Statement[Row] = Statement(
        "SELECT @columns FROM t WHERE a <= @now AND b > @later(seconds) AND @remaining(t.c) > 0", columns=COLUMNS[:2]
    )
    compiled = statement.compiled(SQLITE)
    assert "@" not in compiled.text
    assert compiled.text.startswith("SELECT id, connection_id FROM t")
    assert compiled.bind({"seconds": 1.5}) == [1.5]


def test_text_of_another_dialect_is_not_used() -> None:
    statement: Statement[Row] = Statement({"other": "SELECT 1"})
    with pytest.raises(KeyError):
        statement.compiled(SQLITE)


def test_times_are_text_of_fixed_width_in_utc() -> None:
    moment = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert time_text(moment) == "2026-01-01 23:30:00.000000"
    assert read_time("2026-01-01 23:30:00.000000") == moment.astimezone(UTC)
    compiled = Statement[Row]("SELECT :at, :data, :none, :flag").compiled(SQLITE)
    values = {"at": moment, "data": Json(None), "none": None, "flag": True}
    assert compiled.bind(values) == ["2026-01-01 23:30:00.000000", "null", None, 1]
    assert read_json("null") is None


def test_error_of_the_database_is_not_thrown_into_the_unit() -> None:
    seen: list[str] = []
    select: Statement[Row] = Statement("SELECT 1")

    def work() -> Steps[None]:
        try:
            yield from select()
        except OSError:
            seen.append("caught")
        finally:
            seen.append("closed")

    def failing(call: Call) -> list[Row]:
        raise OSError("kit")

    with pytest.raises(OSError, match="kit"):
        drive(work, failing)
    assert seen == ["closed"]
