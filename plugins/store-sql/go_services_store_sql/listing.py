"""Listings of the queues: pages by key, with filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import peewee as pw

from go_services_core.model import Page, QueueItem

from .statement import Param, Row, Statement, Steps


class Listing:
    """How one queue is listed. Its statement is compiled once per set of filters.

    Args:
        query: from the place where a page begins, in order.
        status, provider_id, name, created_at, handler: the columns that the filters are about.
        row: makes an item of one row.
    """

    def __init__(
        self,
        query: pw.ModelSelect[Any],
        *,
        status: pw.ColumnBase,
        provider_id: pw.ColumnBase,
        name: pw.ColumnBase,
        created_at: pw.ColumnBase,
        handler: pw.ColumnBase | None = None,
        row: Callable[[Row], QueueItem],
    ) -> None:
        self._query = query
        self._conditions = {
            "status": status == Param("status"),
            "provider_id": provider_id == Param("provider_id"),
            "name": name == Param("name"),
            "since": created_at >= Param("since"),
            "until": created_at < Param("until"),
            **({} if handler is None else {"handler": handler == Param("handler")}),
        }
        self._row = row
        self._statements: dict[frozenset[str], Statement[QueueItem]] = {}

    def page(self, filters: Mapping[str, Any], place: Mapping[str, Any], *, limit: int) -> Steps[Page[QueueItem]]:
        """A page after ``place``: one statement. Filters that are None do not count."""
        given = {name: value for name, value in filters.items() if value is not None}
        found = yield from self._statement(frozenset(given))(**given, **place, rows=limit + 1)
        return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)

    def _statement(self, filters: frozenset[str]) -> Statement[QueueItem]:
        known = self._statements.get(filters)
        if known is None:
            query = self._query
            for name in sorted(filters):
                query = query.where(self._conditions[name])
            known = self._statements[filters] = Statement(query, self._row, tail="LIMIT :rows")
        return known
