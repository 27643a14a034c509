"""What differs between databases: parameter style, the clock, and how Python values are stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import peewee
from attrs import field, frozen


@frozen
class Json:
    """A value for a JSON column. ``Json(None)`` is JSON's null, not SQL's."""

    value: Any


@frozen(kw_only=True, eq=False)
class Dialect:
    """One database's way of writing the shared statements."""

    name: str
    placeholder: str
    now: str
    """SQL for the database's clock."""
    later: str
    """SQL for the database's clock plus a number of seconds; ``{}`` stands for the placeholder."""
    remaining: str
    """SQL for the seconds until a time; ``{}`` stands for the column."""
    changes_in_with: bool
    """Whether a WITH may hold INSERT, UPDATE and DELETE."""
    database: peewee.Database
    """Never connected: peewee asks it for quoting and column types."""
    encoders: Mapping[type, Callable[[Any], Any]] = field(factory=dict)
    """How a Python value of exactly that type is handed to the driver."""


def time_text(value: datetime) -> str:
    """``YYYY-MM-DD HH:MM:SS.ffffff`` in UTC: fixed width, so that text order is the order of time."""
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def read_time(value: str | datetime) -> datetime:
    """The aware UTC time that a column holds, whatever the driver made of it."""
    if isinstance(value, str):
        return datetime.fromisoformat(f"{value}+00:00")
    return value.astimezone(UTC)


def read_time_or_none(value: str | datetime | None) -> datetime | None:
    """Like :func:`read_time` for a column that may be NULL."""
    return None if value is None else read_time(value)


def read_json(value: Any) -> Any:
    """What a JSON column holds. Ours hold arrays, objects and null, so that text is always undecoded JSON."""
    return json.loads(value) if isinstance(value, str) else value


def json_text(wrapped: Json) -> str:
    """The text of a JSON value, without spaces."""
    return json.dumps(wrapped.value, separators=(",", ":"), ensure_ascii=False)


SQLITE = Dialect(
    name="sqlite",
    placeholder="?",
    # %f has milliseconds; three zeros keep the width of six digits.
    now="(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')",
    later="(strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {})) || '000')",
    # A day number is exact to some 0.05 ms only: without rounding a lease could have more left than it was given.
    remaining="round((julianday({}) - julianday('now')) * 86400.0, 3)",
    changes_in_with=False,
    database=peewee.SqliteDatabase(None, field_types={"TIMESTAMPTZ": "TEXT", "JSONB": "TEXT", "BYTEA": "BLOB"}),
    encoders={
        datetime: time_text,
        Json: json_text,
        bool: int,
    },
)

POSTGRES = Dialect(
    name="postgres",
    placeholder="%s",
    # Not now(), which is the time of BEGIN; not clock_timestamp(), which is volatile, so that no index would be used.
    now="statement_timestamp()",
    later="(statement_timestamp() + make_interval(secs => {}))",
    remaining="extract(epoch FROM {} - statement_timestamp())",
    changes_in_with=True,
    database=peewee.PostgresqlDatabase(None),
    encoders={Json: json_text},
)
