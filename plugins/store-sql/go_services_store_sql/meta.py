"""Small values that are made once per database, such as its id."""

from __future__ import annotations

from typing import Final

from .models import MetaRow
from .statement import NOW, Param, Row, Statement, Steps, insert

STORE_ID: Final = "store.id"

RECALL: Statement[Row] = Statement(MetaRow.select(MetaRow.value).where(MetaRow.name == Param("name")))
KEEP: Statement[Row] = Statement(insert(MetaRow, created_at=NOW), tail="ON CONFLICT (name) DO NOTHING RETURNING value")

EXCHANGE: Statement[Row] = Statement(
    "UPDATE service_meta SET value = :after WHERE name = :name AND value = :before RETURNING name"
)


def recall(name: str) -> Steps[bytes | None]:
    """The value of that name."""
    found = yield from RECALL.first(name=name)
    return None if found is None else bytes(found[0])


def remember(name: str, value: bytes) -> Steps[bytes]:
    """Keep ``value`` unless there is one; gives the one that is kept."""
    known = yield from recall(name)
    if known is not None:
        return known
    if (yield from KEEP.first(name=name, value=value)) is not None:
        return value
    return (yield from recall(name)) or value


def exchange(name: str, *, before: bytes, after: bytes) -> Steps[bool]:
    """Keep ``after`` if ``before`` is what is kept: one statement."""
    return (yield from EXCHANGE.first(name=name, before=before, after=after)) is not None
