"""Numbered migrations: frozen SQL per dialect, a ledger with checksums, one transaction each.

``NNNN_name.DIALECT.sql`` holds statements that end in ``;`` at the end of a line. A file never changes after its
release; :mod:`go_services_store_sql.schema` writes the text of a new one from the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files

from attrs import frozen

from go_services_core.errors import SchemaOutOfDate, SchemaTooNew, StoreError
from go_services_core.model import MigrationStep

from ..dialect import Dialect, read_time
from ..meta import STORE_ID, recall, remember
from ..models import MigrationRow
from ..statement import Row, Statement, Steps, insert


@frozen
class Migration:
    """One migration for one dialect."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """The statements, in order."""
        parts = [part.strip() for part in self.text.split(";\n")]
        return [part for part in parts if part]


@frozen
class Applied:
    """One line of the ledger."""

    number: int
    name: str
    checksum: str
    applied_at: datetime


@cache
def migrations(dialect: str) -> tuple[Migration, ...]:
    """All migrations of this release for a dialect, in order."""
    found = []
    for file in files(__name__).iterdir():
        stem, _, kind = file.name.partition(".")
        if kind == f"{dialect}.sql":
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


LOCK: Statement[Row] = Statement(
    {
        "sqlite": "",
        "postgres": "SELECT pg_advisory_xact_lock(hashtextextended('go_services migrations', 0))",
    }
)
LEDGER_EXISTS: Statement[Row] = Statement(
    {
        "sqlite": "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'service_migrations'",
        # Not to_regclass(): after waiting for another migrator it may still know only that there was no such table.
        "postgres": "SELECT 1 FROM pg_class WHERE relname = 'service_migrations' AND pg_table_is_visible(oid)",
    }
)
LEDGER: Statement[Applied] = Statement(
    MigrationRow.select(
        MigrationRow.number, MigrationRow.name, MigrationRow.checksum, MigrationRow.applied_at
    ).order_by(MigrationRow.number),
    lambda row: Applied(row[0], row[1], row[2], read_time(row[3])),
)
RECORD: Statement[Row] = Statement(insert(MigrationRow))


def ledger() -> Steps[list[Applied]]:
    """What was applied; empty where there is no ledger yet."""
    if (yield from LEDGER_EXISTS.first()) is None:
        return []
    return (yield from LEDGER())


def pending(applied: Sequence[Applied], dialect: Dialect) -> list[Migration]:
    """What is left to apply.

    Raises:
        SchemaTooNew: the database has a migration that this release does not know.
        StoreError: a migration was applied with another text.
    """
    known = {migration.number: migration for migration in migrations(dialect.name)}
    for line in applied:
        ours = known.pop(line.number, None)
        if ours is None:
            raise SchemaTooNew(
                f"The database has migration {line.number:04d} ({line.name}), which this release does not know.",
                hint="Upgrade go-services-store-sql to the release that migrated it.",
            )
        if ours.checksum != line.checksum:
            raise StoreError(
                f"Migration {line.number:04d} ({line.name}) was applied with another text than this release has.",
                hint="Install the release that migrated the database, unchanged.",
            )
    return list(known.values())


def planned(left: Sequence[Migration]) -> list[MigrationStep]:
    """What applying them would report, without a time."""
    return [MigrationStep(number=migration.number, name=migration.name) for migration in left]


def check(dialect: Dialect) -> Steps[str]:
    """The store's id, if the schema is exactly this release's.

    Raises:
        SchemaOutOfDate, SchemaTooNew, StoreError: it is not.
    """
    left = pending((yield from ledger()), dialect)
    if left:
        names = ", ".join(f"{migration.number:04d} ({migration.name})" for migration in left)
        raise SchemaOutOfDate(f"The database lacks {names}.", hint="Run `go-services store migrate`.")
    store_id = yield from recall(STORE_ID)
    if store_id is None:
        raise StoreError("The database has lost its id (table service_meta).", hint="Restore it from a backup.")
    return store_id.decode()


def apply(migration: Migration, *, dialect: Dialect, store_id: str, now: datetime) -> Steps[MigrationStep | None]:
    """Apply one migration and record it; None when another process has done so meanwhile, which is waited for.

    ``store_id`` becomes the database's id if it has none yet.
    """
    yield from LOCK()
    left = pending((yield from ledger()), dialect)
    if migration not in left:
        return None
    for text in migration.statements:
        yield from Statement[Row](text)()
    yield from RECORD(number=migration.number, name=migration.name, checksum=migration.checksum, applied_at=now)
    yield from remember(STORE_ID, store_id.encode())
    return MigrationStep(number=migration.number, name=migration.name, applied_at=now)
