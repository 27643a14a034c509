"""The way back: undoing the last migration."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from go_services_core.admin import MigrationText
from go_services_core.errors import Conflict, NotFound

from . import migrations
from .dialect import Dialect
from .migrations import Migration
from .statement import Row, Statement, Steps

OWN: Final = ("service_meta", "service_migrations", "service_pending_events")
"""Tables whose rows are about the database itself, or whose migration writes them back into another table."""
TABLES: Final[Statement[Row]] = Statement(
    {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'service_*' ORDER BY name",
        "postgres": """SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p')
          AND starts_with(relname::text, 'service_') AND pg_table_is_visible(oid) ORDER BY relname""",
    }
)
FORGET: Final[Statement[Row]] = Statement("DELETE FROM service_migrations WHERE number = :number")


def read(path: Traversable, kind: str) -> list[Migration]:
    """The files ``NNNN_name.KIND`` of a folder, in order."""
    found = []
    for file in path.iterdir():
        stem, _, rest = file.name.partition(".")
        if rest == kind:
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


@cache
def downs(dialect: str) -> dict[int, Migration]:
    """The files ``NNNN_name.DIALECT.down.sql`` of this release, by number."""
    return {migration.number: migration for migration in read(files(migrations.__name__), f"{dialect}.down.sql")}


def sizes() -> Steps[dict[str, int]]:
    """Rows by table."""
    counted = {}
    for (table,) in (yield from TABLES()):
        ((counted[table],),) = yield from Statement[Row](f'SELECT count(*) FROM "{table}"')()  # noqa: S608
    return counted


def down(dialect: Dialect, *, force: bool) -> Steps[MigrationText]:
    """Undo the last migration. Raises NotFound, or Conflict where rows would be lost and ``force`` is not set."""
    yield from migrations.LOCK()
    applied = yield from migrations.ledger()
    if not applied:
        raise NotFound("No migration is applied, so that none can be undone.")
    migrations.pending(applied, dialect)  # refuses what another release has done
    last = downs(dialect.name)[applied[-1].number]
    before = yield from sizes()
    yield from FORGET(number=last.number)
    for text in last.statements:
        yield from Statement[Row](text)()
    after = yield from sizes()
    lost = {table: rows - after.get(table, 0) for table, rows in before.items() if table not in OWN}
    named = ", ".join(f"{rows} of {table}" for table, rows in lost.items() if rows > 0)
    if named and not force:
        raise Conflict(
            f"Undoing migration {last.number:04d} ({last.name}) would destroy rows: {named}.",
            hint="Make a backup, then repeat it with --force.",
        )
    return MigrationText(number=last.number, name=last.name, statements=tuple(last.statements))
