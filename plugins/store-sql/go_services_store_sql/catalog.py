"""What a database says of its own schema, in a form that can be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from .dialect import Dialect
from .statement import Row, Statement, Steps


@frozen
class Column:
    """One column, as the database describes it."""

    type: str
    nullable: bool
    default: str | None


@define
class TableShape:
    """One table. ``rules`` are its keys, indexes, foreign keys and checks: what it is → what it says."""

    columns: dict[str, Column] = field(factory=dict)
    rules: dict[str, str] = field(factory=dict)


Schema = dict[str, TableShape]

SQLITE_COLUMNS: Statement[Row] = Statement(
    """SELECT t.name, c.name, upper(c.type), c."notnull" = 0, c.dflt_value, c.pk
    FROM sqlite_master AS t JOIN pragma_table_xinfo(t.name) AS c
    WHERE t.type = 'table' AND t.name GLOB 'service_*' ORDER BY t.name, c.cid"""
)
SQLITE_TABLES: Statement[Row] = Statement(
    "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name GLOB 'service_*'"
)
SQLITE_INDEXES: Statement[Row] = Statement(
    """SELECT tbl_name, name, sql FROM sqlite_master
    WHERE type = 'index' AND sql IS NOT NULL AND tbl_name GLOB 'service_*'"""
)
SQLITE_UNIQUE: Statement[Row] = Statement(
    """SELECT t.name, l.name, i.name
    FROM sqlite_master AS t JOIN pragma_index_list(t.name) AS l JOIN pragma_index_info(l.name) AS i
    WHERE t.type = 'table' AND t.name GLOB 'service_*' AND l.origin = 'u' ORDER BY t.name, l.name, i.seqno"""
)
SQLITE_FOREIGN_KEYS: Statement[Row] = Statement(
    """SELECT t.name, f."from", f."table", coalesce(f."to", 'id'), f.on_delete
    FROM sqlite_master AS t JOIN pragma_foreign_key_list(t.name) AS f
    WHERE t.type = 'table' AND t.name GLOB 'service_*'"""
)
POSTGRES_SPACE: Statement[Row] = Statement(
    """SELECT coalesce(
      (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
       WHERE pg_class.oid = to_regclass('service_connections')), current_schema())"""
)
POSTGRES_TEMPORARY: Statement[Row] = Statement("SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()")
POSTGRES_COLUMNS: Statement[Row] = Statement(
    """SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
      pg_get_expr(d.adbin, d.adrelid)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind IN ('r', 'p') AND starts_with(c.relname::text, 'service_') AND n.nspname = :space
    ORDER BY c.relname, a.attnum"""
)
POSTGRES_CONSTRAINTS: Statement[Row] = Statement(
    """SELECT c.relname::text, k.contype::text, pg_get_constraintdef(k.oid)
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE k.contype IN ('p', 'u', 'f', 'c', 'x') AND starts_with(c.relname::text, 'service_') AND n.nspname = :space"""
)
POSTGRES_INDEXES: Statement[Row] = Statement(
    """SELECT c.relname::text, i.relname::text, pg_get_indexdef(x.indexrelid), x.indisvalid
    FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indrelid JOIN pg_class AS i ON i.oid = x.indexrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE starts_with(c.relname::text, 'service_') AND n.nspname = :space
      AND NOT EXISTS (
        SELECT 1 FROM pg_constraint AS k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))"""
)


def actual(dialect: Dialect) -> Steps[Schema]:
    """The tables that are there whose names begin with ``service_``."""
    if dialect.name == "sqlite":
        return (yield from _sqlite())
    ((space,),) = yield from POSTGRES_SPACE()
    return (yield from _postgres(space))


def _sqlite() -> Steps[Schema]:
    schema: Schema = {}
    keys: dict[str, list[tuple[int, str]]] = {}
    for table, name, kind, nullable, default, place in (yield from SQLITE_COLUMNS()):
        shape = schema.setdefault(table, TableShape())
        shape.columns[name] = Column(kind, bool(nullable), default)
        if place:
            keys.setdefault(table, []).append((place, name))
    for table, places in keys.items():
        schema[table].rules["primary key"] = _listed(name for _, name in sorted(places))
    for table, text in (yield from SQLITE_TABLES()):
        _add_checks(schema[table], text)
    for table, name, text in (yield from SQLITE_INDEXES()):
        schema[table].rules[f"{_unique(text)}index {name}"] = _tail(text, " ON ")
    groups: dict[tuple[str, str], list[str]] = {}
    for table, index, name in (yield from SQLITE_UNIQUE()):
        groups.setdefault((table, index), []).append(name)
    for (table, _), names in groups.items():
        schema[table].rules[f"unique constraint {_listed(names)}"] = ""
    deferred = {table: set(_DEFERRED.findall(text)) for table, text in (yield from SQLITE_TABLES())}
    for table, name, target, column, on_delete in (yield from SQLITE_FOREIGN_KEYS()):
        said = f"{target} ({column}) on delete {on_delete.lower()}"
        schema[table].rules[f"foreign key ({name})"] = said + (" deferred" if name in deferred[table] else "")
    return schema


def temporary() -> Steps[Schema]:
    """The temporary tables of a PostgreSQL session."""
    ((space,),) = yield from POSTGRES_TEMPORARY()
    return (yield from _postgres(space))


def _postgres(space: str) -> Steps[Schema]:
    schema: Schema = {}
    for table, name, kind, nullable, default in (yield from POSTGRES_COLUMNS(space=space)):
        schema.setdefault(table, TableShape()).columns[name] = Column(kind, nullable, default)
    for table, kind, text in (yield from POSTGRES_CONSTRAINTS(space=space)):
        what, said = _constraint(kind, text)
        schema[table].rules[what] = said
    for table, name, text, valid in (yield from POSTGRES_INDEXES(space=space)):
        said = _tail(text, " USING ") + ("" if valid else " INVALID")
        schema[table].rules[f"{_unique(text)}index {name}"] = said
    return schema


def _constraint(kind: str, text: str) -> tuple[str, str]:
    if kind == "f":
        columns, _, rest = text.removeprefix("FOREIGN KEY ").partition(" REFERENCES ")
        return f"foreign key {columns}", rest
    if kind == "p":
        return "primary key", text.removeprefix("PRIMARY KEY ")
    return ("unique constraint " + text.removeprefix("UNIQUE ") if kind == "u" else f"check {text}"), ""


_DEFERRED = re.compile(r'"(\w+)" [^,]*? DEFERRABLE INITIALLY DEFERRED')
_SPACE = re.compile(r"\s+")


def _listed(names: Any) -> str:
    return f"({', '.join(names)})"


def _unique(text: str) -> str:
    return "unique " if text.upper().startswith("CREATE UNIQUE") else ""


def _tail(text: str, mark: str) -> str:
    """What an index says after its name: table or method, columns, condition."""
    plain = _SPACE.sub(" ", text).replace('"', "")
    return plain.partition(mark)[2]


def _add_checks(shape: TableShape, text: str) -> None:
    """SQLite keeps checks only in the text of the table."""
    plain = _SPACE.sub(" ", text)
    for found in re.finditer(r"\bCHECK ?\(", plain, re.IGNORECASE):
        depth, end = 1, found.end()
        while depth and end < len(plain):
            depth += {"(": 1, ")": -1}.get(plain[end], 0)
            end += 1
        shape.rules[f"check ({plain[found.end() : end - 1].strip()})"] = ""


def describe(column: Column) -> str:
    """A column's properties in one line."""
    parts = [column.type, "nullable" if column.nullable else "not null"]
    return " ".join(parts if column.default is None else [*parts, f"default {column.default}"])


def differences(expected: Schema, found: Mapping[str, TableShape]) -> list[str]:
    """What is missing, different or in the way, in plain words.

    Tables that are not expected and further indexes that are not unique do no harm and are not named.
    """
    problems: list[str] = []
    for table, wanted in expected.items():
        shape = found.get(table)
        if shape is None:
            problems.append(f"table {table} is missing")
            continue
        for name, column in wanted.columns.items():
            there = shape.columns.get(name)
            if there is None:
                problems.append(f"{table}: column {name} is missing")
            elif there != column:
                problems.append(f"{table}: column {name} is {describe(there)}, not {describe(column)}")
        problems += [f"{table}: column {name} is not ours" for name in shape.columns if name not in wanted.columns]
        for what, said in wanted.rules.items():
            if what not in shape.rules:
                problems.append(f"{table}: {what} is missing")
            elif shape.rules[what] != said:
                problems.append(f"{table}: {what} is `{shape.rules[what]}`, not `{said}`")
        problems += [
            f"{table}: {what} is not ours"
            for what in shape.rules
            if what not in wanted.rules and not what.startswith("index ")
        ]
    return problems
