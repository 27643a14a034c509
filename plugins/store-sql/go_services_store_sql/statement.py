"""Statements: SQL compiled once per dialect, with a decoder for its rows.

A unit of work is a generator that uses them as typed sub-generators::

    def rename(connection_id: str, name: str) -> Steps[bool]:
        renamed = yield from RENAME.first(id=connection_id, name=name)
        return renamed is not None

Text is written in one of two ways: by peewee from the models, with :class:`Param` where a value goes, or by hand with

- ``:name`` for a value,
- ``@now`` for the database's clock and ``@later(name)`` for the clock plus that many seconds,
- ``@remaining(column)`` for the seconds until a time,
- ``@columns`` for the columns that are given.

Where dialects need different text, a mapping holds one for each; an empty text is a step that a dialect does without,
such as a lock that its only writer has anyway. Inside a quoted literal these marks count as well:
give such text as a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

import peewee
from attrs import frozen

from go_services_core.model import Event

from .dialect import Dialect

R = TypeVar("R")
T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

_CLOCK = re.compile(r"@(now|later|remaining)\b(?:\(([\w.]+)\))?")
_NAME = re.compile(r"(?<![:\w]):([a-z_]+)\b")


@frozen
class _Name:
    name: str


class Param(peewee.Node):
    """The place of a named value in a query that peewee writes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __sql__(self, ctx: peewee.Context) -> peewee.Context:
        return cast("peewee.Context", ctx.value(_Name(self.name), converter=False))


NOW = peewee.SQL("@now")
"""The database's clock in a query that peewee writes."""


def insert(model: type[peewee.Model], **fixed: peewee.Node) -> peewee.Query:
    """An insert of every column of ``model``: a value of the column's name, or what ``fixed`` says."""
    values = {field: fixed.get(field.name, Param(field.column_name)) for field in model._meta.sorted_fields}
    return cast("peewee.Query", model.insert(values))


@frozen(eq=False)
class Compiled:
    """A statement's text for one dialect, and what goes to its placeholders in order."""

    text: str
    places: tuple[str, ...]
    constants: Mapping[str, Any]
    dialect: Dialect

    def bind(self, given: Mapping[str, Any]) -> list[Any]:
        """The driver's parameters for these named values."""
        if self.constants:
            given = {**self.constants, **given}
        encoder = self.dialect.encoders.get
        return [
            value if (encode := encoder(type(value))) is None else encode(value)
            for value in map(given.__getitem__, self.places)
        ]


@frozen(eq=False)
class Call:
    """One step of a unit: a statement and its named values. The driver answers it with the rows."""

    statement: Statement[Any]
    values: Mapping[str, Any]
    events: Sequence[Event] = ()
    """What it writes into the outbox; read when the unit has ended."""


Steps: TypeAlias = Generator[Call, list[Row], T]
"""A unit of work, or a part of one."""


def _whole(row: Row) -> Any:
    return row


class Statement(Generic[R]):
    """One SQL statement.

    Args:
        source: a peewee query, text for every dialect, or a mapping from the dialect's name to its text.
        row: makes a result of one row; without it rows stay tuples.
        tail: text that follows a query of peewee's.
        columns: what ``@columns`` in the text stands for.
    """

    def __init__(
        self,
        source: peewee.Query | str | Mapping[str, str],
        row: Callable[[Row], R] = _whole,
        *,
        tail: str = "",
        columns: Sequence[peewee.Field] = (),
    ) -> None:
        self._source = source
        self._columns = ", ".join(column.column_name for column in columns)
        self._row = row
        self._tail = tail
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, dialect: Dialect) -> Compiled:
        """The text for ``dialect``; made on first use, then kept."""
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = self._compile(dialect)
        return found

    def __call__(self, **values: Any) -> Steps[list[R]]:
        """Run it and give all rows."""
        rows = yield Call(self, values)
        return [self._row(row) for row in rows]

    def first(self, **values: Any) -> Steps[R | None]:
        """Run it and give the first row, or None when there is none."""
        rows = yield Call(self, values)
        return self._row(rows[0]) if rows else None

    def _compile(self, dialect: Dialect) -> Compiled:
        if isinstance(self._source, peewee.Node):
            context: Any = dialect.database.get_sql_context()
            text, values = context.sql(self._source).query()
            tail, more = self._by_hand(self._tail, dialect)
            text, values = f"{_clocks(text, dialect)} {tail}".rstrip(), [*values, *more]
        else:
            by_hand = self._source if isinstance(self._source, str) else self._source[dialect.name]
            text, values = self._by_hand(by_hand, dialect)
        constants = {f"constant {place}": value for place, value in enumerate(values) if type(value) is not _Name}
        places = [value.name if type(value) is _Name else f"constant {place}" for place, value in enumerate(values)]
        return Compiled(text, tuple(places), constants, dialect)

    def _by_hand(self, text: str, dialect: Dialect) -> tuple[str, list[_Name]]:
        text = _clocks(text.replace("@columns", self._columns), dialect)
        values = [_Name(name) for name in _NAME.findall(text)]
        return _NAME.sub(lambda _: dialect.placeholder, text), values


def _clocks(text: str, dialect: Dialect) -> str:
    def clock(match: re.Match[str]) -> str:
        kind, argument = match.groups()
        if kind == "now":
            return dialect.now
        return dialect.later.format(f":{argument}") if kind == "later" else dialect.remaining.format(argument)

    return _CLOCK.sub(clock, text)
