"""Verification: the schema that is there against the one that the migrations make, and the rows against the rules."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from functools import cache
from typing import Any, Final, Protocol

from go_services_core.errors import BadInput, StoreError

from . import catalog, integrity, migrations
from .catalog import Schema, differences
from .dialect import POSTGRES, SQLITE, Dialect
from .driver import drive
from .models import TRIGGERS
from .statement import Call, Row, Statement, Steps

OAUTH_TABLES: Final = (
    "service_connections",
    "service_credentials",
    "service_grant_events",
    "service_grant_snapshots",
    "service_oauth_attempts",
)
"""What connecting accounts needs."""
ALIASES: Final = {
    "pg": POSTGRES,
    "postgres": POSTGRES,
    "postgresql": POSTGRES,
    "sqlite": SQLITE,
    "sqlite3": SQLITE,
}

SAVE: Statement[Row] = Statement("SAVEPOINT go_services_verify")
APART: Statement[Row] = Statement("SET LOCAL search_path TO pg_temp")
UNDO: Statement[Row] = Statement("ROLLBACK TO SAVEPOINT go_services_verify")
RELEASE: Statement[Row] = Statement("RELEASE SAVEPOINT go_services_verify")
SQLITE_TRIGGERS: Statement[Row] = Statement("SELECT sql FROM sqlite_master WHERE type = 'trigger'")


def dialect_of(name: str) -> Dialect:
    """The dialect of that name or alias.

    Raises:
        BadInput: there is none.
    """
    found = ALIASES.get(name.strip().lower())
    if found is None:
        raise BadInput(
            f"{name!r} is an unsupported dialect.", hint=f"Name one of {', '.join(ALIASES)}.", field="dialect"
        )
    return found


def schema(dialect: Dialect) -> Steps[list[str]]:
    """The differences between the tables that are there and those of this release. Runs in a transaction.

    On PostgreSQL the migrations run once more as temporary tables, which are undone at once: only the server knows how
    it writes an expression.
    """
    found = yield from catalog.actual(dialect)
    if dialect.name == "sqlite":
        made = {text for (text,) in (yield from SQLITE_TRIGGERS())}
        lost = [trigger for trigger in TRIGGERS[dialect.name] if trigger.text not in made]
        lines = [f"table {trigger.table}: trigger {trigger.name} is missing" for trigger in lost]
        return [*differences(_expected_of_sqlite(), found), *lines]
    yield from SAVE()
    yield from APART()
    for migration in migrations.migrations(dialect.name):
        for text in migration.statements:
            yield from Statement[Row](text)()
    expected = yield from catalog.temporary()
    yield from UNDO()
    yield from RELEASE()
    return differences(expected, found)


@cache
def _expected_of_sqlite() -> Schema:
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in migrations.migrations(SQLITE.name):
            connection.executescript(migration.text)
        return drive(lambda: catalog.actual(SQLITE), lambda call: _execute(connection, call, SQLITE))


def verify(dialect: Dialect) -> Steps[list[str]]:
    """Schema and rows; where migrations are pending only that is said. Runs in a transaction and changes nothing."""
    try:
        left = migrations.pending((yield from migrations.ledger()), dialect)
    except StoreError as error:
        return [str(error)]
    if left:
        return [f"migration {migration.number:04d} ({migration.name}) is pending" for migration in left]
    problems = yield from schema(dialect)
    missing = any(problem.endswith(" is missing") for problem in problems)
    return problems if missing else [*problems, *(yield from integrity.check(dialect))]


class Connection(Protocol):
    """An open connection of ``sqlite3`` or psycopg."""

    def execute(self, text: str, values: Any, /) -> Any: ...


def verify_schema(connection: Connection | None, dialect: str, *, tables: Collection[str] | None = None) -> None:
    """Check the schema behind an application's own connection, for instance after its own migration runner.

    Args:
        connection: of ``sqlite3`` or psycopg. Nothing is changed, and an open transaction stays open.
        dialect: postgres or sqlite, or an alias.
        tables: only these; all of this release by default. :data:`OAUTH_TABLES` is what connecting accounts needs.

    Raises:
        BadInput: there is no connection, or the dialect is not supported.
        StoreError: naming everything that is missing or different.
    """
    known = dialect_of(dialect)
    if connection is None:
        raise BadInput("verify_schema needs an open connection.", field="connection")
    # A savepoint needs a transaction. psycopg begins one by itself, except in autocommit mode.
    begins = known is POSTGRES and getattr(connection, "autocommit", False)
    if begins:
        connection.execute("BEGIN", None)
    try:
        problems = drive(lambda: schema(known), lambda call: _execute(connection, call, known))
    finally:
        if begins:
            connection.execute("ROLLBACK", None)
    if tables is not None:
        wanted = tuple(tables)
        problems = [line for line in problems if line.removeprefix("table ").split(":")[0].split(" ")[0] in wanted]
    if problems:
        raise StoreError(
            "The schema is not this release's: " + "; ".join(sorted(problems)) + ".",
            hint="Apply the migrations of this release.",
        )


def verify_oauth_schema(connection: Connection | None, dialect: str) -> None:
    """:func:`verify_schema` for the tables that connecting accounts needs."""
    verify_schema(connection, dialect, tables=OAUTH_TABLES)


def _execute(connection: Connection, call: Call, dialect: Dialect) -> list[Row]:
    compiled = call.statement.compiled(dialect)
    cursor = connection.execute(compiled.text, compiled.bind(call.values))
    rows: list[Row] = [] if cursor.description is None else cursor.fetchall()
    return rows
