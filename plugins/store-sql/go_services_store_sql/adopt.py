"""Adoption: the Go system's tables become this release's, in one transaction.

Its tables are renamed, the migrations make ours, the rows are copied by one statement a table, the old tables are
dropped, and the result is verified; where that finds a problem, everything is undone. Ciphertexts are copied byte for
byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from go_services_core.admin import AdoptedTable, AdoptOptions, Progress
from go_services_core.errors import Conflict, StoreError

from . import catalog, fan_out, migrations
from .adopt_rules import ASSUMED_KIND, DEAD_LETTER, OLD, RULES, Rule, default_of
from .adopt_values import Reading, reading
from .dialect import Dialect, Json
from .go_schema import COLUMNS, EVENTS
from .models.columns import JsonColumn, Time
from .statement import Row, Statement, Steps
from .verify import verify

POSTGRES_LOCK: Final[Statement[Row]] = Statement(f"LOCK TABLE {', '.join(COLUMNS)} IN ACCESS EXCLUSIVE MODE")
# The rows of the other application keep their meaning, but PostgreSQL ties its foreign keys to the old tables.
POSTGRES_STRANGERS: Final[Statement[Row]] = Statement(
    """SELECT DISTINCT k.conrelid::regclass::text FROM pg_constraint AS k
    WHERE k.contype = 'f'
      AND k.confrelid IN (SELECT to_regclass(value) FROM jsonb_array_elements_text(:tables) AS value)
      AND k.conrelid NOT IN (SELECT to_regclass(value) FROM jsonb_array_elements_text(:tables) AS value)"""
)
# Names of indexes are one per schema, so that the old ones make room.
POSTGRES_STRIP: Final[Statement[Row]] = Statement(
    """SELECT text FROM (
      SELECT CASE k.contype WHEN 'f' THEN 0 ELSE 1 END AS place,
        'ALTER TABLE ' || quote_ident(c.relname) || ' DROP CONSTRAINT ' || quote_ident(k.conname) AS text
      FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
      WHERE k.contype IN ('f', 'p', 'u', 'x', 'c') AND c.oid = to_regclass(:table)
        AND (k.contype = 'f' OR :whole)
      UNION ALL
      SELECT 2, 'DROP INDEX ' || quote_ident(i.relname)
      FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
      WHERE x.indrelid = to_regclass(:table) AND :whole
        AND NOT EXISTS (SELECT 1 FROM pg_constraint AS k WHERE k.conindid = x.indexrelid)) AS parts
    ORDER BY place"""
)
POSTGRES_CHECK_NOW: Final[Statement[Row]] = Statement("SET CONSTRAINTS ALL IMMEDIATE")
POSTGRES_TIE_EVENTS: Final[Statement[Row]] = Statement(
    f"""ALTER TABLE {EVENTS} ADD FOREIGN KEY (connection_id) REFERENCES service_connections (id) ON DELETE SET NULL"""
)
SQLITE_STRIP: Final[Statement[Row]] = Statement(
    """SELECT 'DROP INDEX "' || name || '"' FROM sqlite_master
    WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = :table"""
)
ASSUMED: Final[Statement[Row]] = Statement(
    "SELECT count(*) FROM service_connections WHERE auth_kind = :assumed AND deleted_at IS NULL"
)
SET_KIND: Final[Statement[Row]] = Statement(
    "UPDATE service_connections SET auth_kind = :kind WHERE provider_id = :provider AND auth_kind = :assumed"
)
GIVE_UP: Final[Statement[Row]] = Statement(
    """INSERT INTO service_event_deliveries (event_id, handler, status, attempts, last_error, updated_at)
    SELECT event_id, :handler, 'dead', attempts, last_error, updated_at FROM service_lifecycle_outbox
    WHERE status = 'processing'"""
)
# SQLite's trigger has done so already.
HAND_OUT: Final[Statement[Row]] = Statement(
    """INSERT INTO service_pending_events (event_id)
    SELECT event_id FROM service_lifecycle_outbox WHERE status = 'committed' ON CONFLICT DO NOTHING"""
)
UNHEARD: Final[Statement[Row]] = Statement("SELECT count(*) FROM service_pending_events")
DROP_BODIES: Final[Statement[Row]] = Statement("UPDATE service_webhook_deliveries SET payload = :empty")
BODIES: Final[Statement[Row]] = Statement("SELECT count(*) FROM service_webhook_deliveries WHERE length(payload) > 0")
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


def adopt(
    dialect: Dialect, options: AdoptOptions, *, store_id: str, now: datetime, progress: Progress | None
) -> Steps[list[AdoptedTable]]:
    """Adopt everything. Raises StoreError or Conflict, and the driver undoes what was done.

    On SQLite the connection needs :data:`adopt_values.FUNCTIONS`, ``foreign_keys`` off and ``legacy_alter_table`` on.
    """
    read = reading(dialect)
    yield from migrations.LOCK()  # a second one waits here, and then finds it done
    yield from _recognise(dialect)
    if dialect.name == "postgres":
        yield from POSTGRES_LOCK()
    yield from _refuse_strangers(dialect)
    yield from _refuse_unreadable(read)
    yield from _set_aside(dialect)
    for migration in migrations.migrations(dialect.name):
        yield from migrations.apply(migration, dialect=dialect, store_id=store_id, now=now)
    report: list[AdoptedTable] = []
    for rule in RULES:
        line = yield from _copy(rule, read)
        report.append(line)
        if progress is not None:
            progress(f"{line.name}: {line.rows} rows")
    report.append((yield from _copy_events(read)))
    report = yield from _finish(report, options)
    for rule in reversed(RULES):
        yield from _run(f"DROP TABLE {OLD}{rule.table}")
    if dialect.name == "postgres":
        yield from POSTGRES_CHECK_NOW()
        yield from POSTGRES_TIE_EVENTS()
    if progress is not None:
        progress("verifying")
    problems = yield from verify(dialect)
    if problems:
        raise Conflict(
            "The adopted database would not be sound: " + "; ".join(problems) + ".",
            hint="Repair these rows in the Go system's database, then adopt again.",
        )
    return report


def _run(text: str) -> Steps[list[Row]]:
    return (yield from Statement[Row](text)())


def _recognise(dialect: Dialect) -> Steps[None]:
    """Refuse what is not exactly a schema of the Go system."""
    if (yield from migrations.ledger()):
        raise StoreError(
            "The database is this system's already; there is nothing to adopt.",
            hint="Look at `go-services store status`.",
        )
    found = yield from catalog.actual(dialect)
    problems: list[str] = []
    for table, names in COLUMNS.items():
        if table not in found:
            problems.append(f"table {table} is missing")
            continue
        problems += [f"{table} has no column {name}" for name in names if name not in found[table].columns]
        problems += [f"{table} has an unknown column {name}" for name in found[table].columns if name not in names]
    problems += [f"table {table} is unknown" for table in found if table not in COLUMNS]
    if problems:
        raise StoreError(
            "The database is not of go-services 0.7: " + "; ".join(problems) + ".",
            hint="Run all migrations of the Go system first; other tables may not begin with service_.",
        )


def is_go_schema(dialect: Dialect) -> Steps[bool]:
    """Whether the database has tables of the Go system and none of ours."""
    if (yield from migrations.ledger()):
        return False
    return "service_connections" in (yield from catalog.actual(dialect))


def _refuse_strangers(dialect: Dialect) -> Steps[None]:
    if dialect.name == "sqlite":
        return  # SQLite ties foreign keys to names, which stay
    strangers = sorted(name for (name,) in (yield from POSTGRES_STRANGERS(tables=Json(list(COLUMNS)))))
    if strangers:
        raise Conflict(
            f"Foreign keys of {', '.join(strangers)} refer to tables that adoption replaces.",
            hint="Drop these foreign keys, adopt, and add them again: ids and names stay.",
        )


def _refuse_unreadable(read: Reading) -> Steps[None]:
    """Refuse rows whose meaning would be lost, all at once."""
    problems: list[str] = []
    for rule in RULES:
        for what, condition in _bad(rule, read):
            ((rows,),) = yield from _run(f"SELECT count(*) FROM {rule.table} AS old WHERE {condition}")  # noqa: S608
            if rows:
                problems.append(f"{rows} rows of {rule.table} have {what}")
    if problems:
        raise Conflict(
            "Rows cannot be adopted: " + "; ".join(problems) + ".", hint="Repair or delete these rows first."
        )


def _bad(rule: Rule, read: Reading) -> list[tuple[str, str]]:
    columns = {name: column for name, column in rule.model._meta.columns.items() if name in rule.go_columns}
    times = [read.bad_time(f'old."{name}"') for name, column in columns.items() if isinstance(column, Time)]
    found = [("a time that cannot be read", " OR ".join(times))] if times else []
    for name, column in columns.items():
        if isinstance(column, JsonColumn):
            found.append((f"no JSON of the right kind in {name}", read.bad_json(f'old."{name}"', default_of(column))))
    if rule.has_scope:
        scope = "lower(trim(old.scope_type)) NOT IN ('user', 'org') OR trim(old.scope_id) = ''"
        found.append(("a scope that is neither a user nor an organisation", scope))
    if rule.statuses:
        known = ", ".join(f"'{status}'" for status in rule.statuses)
        found.append(("an unknown status", f"lower(trim(old.status)) NOT IN ({known})"))
    return found


def _set_aside(dialect: Dialect) -> Steps[None]:
    """Rename the old tables and remove their indexes and constraints; ``service_events`` keeps its name and rows."""
    if dialect.name == "postgres":
        for table in reversed(COLUMNS):
            for (text,) in (yield from POSTGRES_STRIP(table=table, whole=table != EVENTS)):
                yield from _run(text)
    for rule in RULES:
        if dialect.name == "sqlite":
            for (text,) in (yield from SQLITE_STRIP(table=rule.table)):
                yield from _run(text)
        yield from _run(f"ALTER TABLE {rule.table} RENAME TO {OLD}{rule.table}")


def _copy(rule: Rule, read: Reading) -> Steps[AdoptedTable]:
    values = rule.expressions(read)
    columns = ", ".join(f'"{name}"' for name in values)
    yield from _run(f"INSERT INTO {rule.table} ({columns}) SELECT {', '.join(values.values())} FROM {rule.rows()}")  # noqa: S608
    ((rows,),) = yield from _run(f"SELECT count(*) FROM {rule.table}")  # noqa: S608
    ((changed,),) = yield from _run(f"SELECT count(*) FROM {rule.rows()} WHERE {rule.is_changed()}")  # noqa: S608
    return AdoptedTable(name=rule.table, rows=rows, changed=changed, note=rule.note if changed else "")


def _copy_events(read: Reading) -> Steps[AdoptedTable]:
    """The Go system's audit events become activity; their table is only read."""
    metadata = read.with_member(read.with_member("old.metadata", "status", "old.status"), "error", "old.error")
    values = {
        "id": "old.id",
        "provider_id": "old.provider_id",
        "scope_type": "lower(trim(old.scope_type))",
        "scope_id": "trim(old.scope_id)",
        "connection_id": "old.connection_id",
        "channel": "'services.events'",
        "action": "old.event_type",
        "object_type": "CASE WHEN old.connection_id IS NULL THEN 'event' ELSE 'connection' END",
        "object_id": "coalesce(old.connection_id, old.id)",
        "actor": "'system'",
        "actor_type": "'system'",
        "status": """CASE WHEN old.error <> '' OR lower(trim(old.status)) IN ('error', 'failed', 'failure')
          THEN 'error' ELSE 'ok' END""",
        "metadata": metadata,
        "created_at": read.time("old.created_at"),
    }
    yield from _run(
        f"""INSERT INTO service_activity_entries ({", ".join(values)})
        SELECT {", ".join(values.values())} FROM {EVENTS} AS old"""  # noqa: S608
    )
    ((rows,),) = yield from _run(f"SELECT count(*) FROM {EVENTS}")  # noqa: S608
    return AdoptedTable(name=EVENTS, rows=rows, note="copied into service_activity_entries; the table stays as it was")


def _finish(report: Sequence[AdoptedTable], options: AdoptOptions) -> Steps[list[AdoptedTable]]:
    """What the operator's options decide, with a note for what they leave open."""
    notes: dict[str, str] = {}
    for provider, kind in options.auth_kinds.items():
        yield from SET_KIND(provider=provider, kind=kind, assumed=ASSUMED_KIND)
    ((assumed,),) = yield from ASSUMED(assumed=ASSUMED_KIND)
    if assumed:
        notes["service_connections"] = f"{assumed} are taken for {ASSUMED_KIND}; --auth says otherwise"
    yield from GIVE_UP(handler=DEAD_LETTER)
    yield from fan_out.register(options.handlers, now=EARLIEST)
    yield from HAND_OUT()
    ((pending,),) = yield from UNHEARD()
    if pending and not options.handlers:
        notes["service_lifecycle_outbox"] = f"{pending} pending ones reach only handlers named with --handler"
    if options.drop_bodies:
        yield from DROP_BODIES(empty=b"")
    ((bodies,),) = yield from BODIES()
    if bodies:
        notes["service_webhook_deliveries"] = f"{bodies} bodies stay in clear; --drop-bodies removes them"
    return [
        AdoptedTable(
            name=line.name,
            rows=line.rows,
            changed=line.changed,
            note="; ".join(part for part in (line.note, notes.get(line.name)) if part),
        )
        for line in report
    ]
