"""The columns that all tables are made of.

Times are TIMESTAMPTZ (in SQLite TEXT of fixed width), JSON is JSONB (TEXT), bytes are BYTEA (BLOB).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee as pw
from peewee import SQL


class Time(pw.Field):
    """An aware UTC time."""

    field_type = "TIMESTAMPTZ"


class JsonColumn(pw.Field):
    """A JSON array, object or null."""

    field_type = "JSONB"


class Bytes(pw.Field):
    """Raw bytes."""

    field_type = "BYTEA"


class Table(pw.Model):
    """Base of all models; bound to no database."""

    class Meta:
        legacy_table_names = False


def text(default: str | None = None, *, constraints: Sequence[pw.Node] = (), **options: Any) -> pw.TextField[Any]:
    """Text, with a default where one is given."""
    rules = [*constraints] if default is None else [SQL(f"DEFAULT '{default}'"), *constraints]
    return pw.TextField(constraints=rules, **options)


def json(default: str = "{}") -> JsonColumn:
    """JSON with its default."""
    return JsonColumn(constraints=[SQL(f"DEFAULT '{default}'")])


def count() -> pw.IntegerField[Any]:
    """A number that begins at 0."""
    return pw.IntegerField(constraints=[SQL("DEFAULT 0")])


def connection(on_delete: str = "CASCADE", **options: Any) -> pw.TextField[Any]:
    """The id of a connection, which must exist."""
    return text(constraints=[SQL(f"REFERENCES service_connections (id) ON DELETE {on_delete}")], **options)
