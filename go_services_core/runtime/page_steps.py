"""From one page of a list to the next, without I/O: the items of an answer, and where the following page begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from attrs import frozen

from ..errors import BadInput, ResponseInvalid
from ..http import Headers
from ..specs import Operation, Pagination
from .answers import MISSING, at
from .links import next_link


@frozen(repr=False)
class Position:
    """Where a page begins: at ``url``, or with ``value`` in the paging parameter; neither is the first page.

    Either may hold a secret: some providers put a token into the URL of the next page.
    """

    url: str | None = None
    value: str | int | None = None


def pagination_of(operation: Operation) -> Pagination:
    """How ``operation`` is continued.

    Raises:
        BadInput: it is not a list of pages, or its record lacks what its style needs.
    """
    pagination = operation.pagination
    if pagination is None:
        raise BadInput(f"Operation {operation.id} is not a list of pages.", hint="Use execute.", field="operation")
    for name in needed(pagination):
        if getattr(pagination, name) is None:
            raise BadInput(
                f"The pagination of operation {operation.id} has the style {pagination.style} and no {name}.",
                field="pagination",
            )
    return pagination


def needed(pagination: Pagination) -> tuple[str, ...]:
    """The fields of the record that its style cannot do without."""
    if pagination.style == "next_url":
        return ("next",)
    if pagination.style == "cursor":
        return ("next", "param")
    return ("param",) if pagination.style in ("offset", "page", "connection") else ()


def items_of(operation: Operation, pagination: Pagination, data: Any) -> list[Any]:
    """The items of a page.

    Raises:
        ResponseInvalid: there is no list where the record says.
    """
    path = pagination.items or operation.result
    found = data if path is None else at(data, path)
    if pagination.style == "connection":
        found = _nodes(found)
    if not isinstance(found, list):
        where = f"at {path!r}" if path else "as its answer"
        raise ResponseInvalid(f"Operation {operation.id} has no list {where}.")
    return found


def _nodes(connection: Any) -> Any:
    if not isinstance(connection, Mapping):
        return None
    if isinstance(connection.get("nodes"), list):
        return connection["nodes"]
    edges = connection.get("edges")
    if not isinstance(edges, list):
        return None
    return [edge.get("node") if isinstance(edge, Mapping) else None for edge in edges]


def following(
    operation: Operation,
    params: Mapping[str, Any],
    position: Position,
    *,
    url: str,
    data: Any,
    headers: Headers,
    count: int,
) -> Position | None:
    """Where the page after this one begins; None at the end.

    Args:
        operation: the list.
        params: what it is called with, defaults included.
        position: where this page began.
        url: that this page was asked from.
        data: this page's answer.
        headers: this page's headers.
        count: the items on this page.

    Raises:
        ResponseInvalid: the answer says that there is another page but not where.
    """
    pagination = pagination_of(operation)
    style = pagination.style
    more = None if pagination.more is None else at(data, pagination.more)
    if more is False or more == "false":
        return None
    if style == "link":
        link = next_link(headers)
        return Position(url=urljoin(url, link)) if link is not None else None
    if style in ("offset", "page"):
        return _numbered(operation, pagination, params, position, count, told=more is True)
    if style == "connection":
        return _after(operation, pagination, data)
    found = at(data, pagination.next or "")
    if found is MISSING or found is None or found == "":
        if more is True and (style == "next_url" or count):
            raise _lost(operation)
        return None
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        raise ResponseInvalid(f"Operation {operation.id} has no URL or cursor at {pagination.next!r}.")
    return Position(url=urljoin(url, str(found))) if style == "next_url" else Position(value=found)


def _numbered(
    operation: Operation,
    pagination: Pagination,
    params: Mapping[str, Any],
    position: Position,
    count: int,
    *,
    told: bool,
) -> Position | None:
    """The next offset or page number.

    A short page is the end only where the provider is known to give as many items as it was asked for.
    """
    if not told:
        sizes = {param.name: param for param in operation.params if param.maximum is not None}
        size = params.get(pagination.size_param) if pagination.size_param in sizes else None
        if count == 0 or (isinstance(size, int) and count < size):
            return None
    now = position.value
    if now is None:
        now = params.get(pagination.param or "")
    if not isinstance(now, int):
        now = 0 if pagination.style == "offset" else pagination.first
    if pagination.style == "offset" and count == 0:
        raise _lost(operation)
    return Position(value=now + (count if pagination.style == "offset" else 1))


def _after(operation: Operation, pagination: Pagination, data: Any) -> Position | None:
    """https://relay.dev/graphql/connections.htm#sec-undefined.PageInfo"""
    connection = data if pagination.items is None else at(data, pagination.items)
    info = connection.get("pageInfo") if isinstance(connection, Mapping) else None
    if not isinstance(info, Mapping):
        raise ResponseInvalid(f"Operation {operation.id} has no pageInfo beside its items.")
    if info.get("hasNextPage") is not True:
        return None
    cursor = info.get("endCursor")
    if not isinstance(cursor, str) or not cursor:
        raise _lost(operation)
    return Position(value=cursor)


def _lost(operation: Operation) -> ResponseInvalid:
    return ResponseInvalid(f"Operation {operation.id} says that there is another page, but not where.")
