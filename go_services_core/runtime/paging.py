"""Lists that come in pages: each page is a call of its own, permitted, retried and budgeted like any other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from attrs import evolve, frozen

from ..calls import ItemPage
from ..errors import BadInput, RequestTimeout, ResponseInvalid
from ..model import OperationResult
from .core import Core, Loaded
from .exchanges import asked_of
from .hosts import require_host
from .load import load
from .observed import observed, permitted
from .operations import exchanged, made, plan_of, started
from .page_steps import Position, following, items_of, pagination_of
from .page_tokens import Mark, digest_of, issue, read
from .requests import Plan, build


@frozen(repr=False)
class _Page:
    """What came of one call of a list."""

    loaded: Loaded
    items: list[Any]
    """Those that were not given before."""
    skipped: int
    next: Position | None
    result: OperationResult


async def paginate(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    *,
    limit: int | None,
    max_pages: int | None,
    resume: str | None,
    deadline: float | None,
    background: bool,
) -> AsyncIterator[Any]:
    """The items of a list, page after page; see ``Runtime.paginate``."""
    given = 0
    max_pages = _pages_for(limit, max_pages)
    async for page, _ in _pages(
        core, connection_id, operation_id, params, max_pages, resume, deadline=deadline, background=background
    ):
        for item in page.items:
            if limit is not None and given >= limit:
                return
            given += 1
            yield item
        if limit is not None and given >= limit:
            return


async def pages(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    *,
    limit: int | None,
    max_pages: int | None,
    resume: str | None,
    deadline: float | None,
    background: bool,
) -> AsyncIterator[ItemPage]:
    """The pages of a list; see ``Runtime.pages``."""
    digest = digest_of(operation_id, params or {})
    max_pages = _pages_for(limit, max_pages)
    given = number = 0
    async for page, began in _pages(
        core, connection_id, operation_id, params, max_pages, resume, deadline=deadline, background=background
    ):
        items = page.items if limit is None else page.items[: limit - given]
        given += len(items)
        number += 1
        mark = Mark(page.next) if page.next is not None else None
        if len(items) < len(page.items):
            mark = Mark(began, page.skipped + len(items))
        yield ItemPage(
            items=tuple(items),
            resume=await issue(core, page.loaded, digest, mark) if mark is not None else None,
            number=number,
            request_id=page.result.request_id,
            attempts=page.result.attempts,
        )
        if limit is not None and given >= limit:
            return


async def _pages(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    max_pages: int | None,
    resume: str | None,
    *,
    deadline: float | None,
    background: bool,
) -> AsyncIterator[tuple[_Page, Position]]:
    """Each page, and where it began. A position that comes again would never end, and is refused."""
    loaded = await load(core, connection_id)
    plan = plan_of(core, loaded, operation_id)
    pagination_of(plan.operation)
    given = dict(params or {})
    mark = Mark(Position())
    if resume is not None:
        mark = await read(core, loaded, digest_of(operation_id, given), resume)
    seen = {_digest(mark.position)}
    before = None
    count = 0
    while max_pages is None or count < max_pages:
        try:
            async with asyncio.timeout(deadline):
                page = await _page(core, connection_id, plan, given, mark, deadline=deadline, background=background)
        except TimeoutError:
            raise RequestTimeout(f"A page of {operation_id} was not there within {deadline:g} s.") from None
        count += 1
        yield page, mark.position
        if page.next is None:
            return
        ends = _ends(page)
        if _digest(page.next) in seen or (ends is not None and ends == before):
            raise ResponseInvalid(
                f"Operation {operation_id} gives a page, or names one as the next, that it gave before: the list would "
                "never end."
            )
        seen.add(_digest(page.next))
        before = ends
        mark = Mark(page.next)


async def _page(
    core: Core,
    connection_id: str,
    plan: Plan,
    params: Mapping[str, Any],
    mark: Mark,
    *,
    deadline: float | None,
    background: bool,
) -> _Page:
    position = mark.position
    operation = plan.operation
    pagination = pagination_of(operation)
    loaded = await load(core, connection_id)
    permitted(core, loaded, operation)
    call = started(core, loaded, operation, deadline=deadline, background=background)
    asked = params if position.value is None else {**params, pagination.param or "": position.value}
    if operation.call is not None:
        shaped = asked_of(core, call, plan, asked)
        shaped = evolve(shaped, url=_target(loaded, position, shaped.url))
        url = shaped.url
        run = partial(exchanged, core, call, shaped, whole=True)
    else:
        request = build(plan, asked, idempotency_key=None, timeout=call.timeout)
        request = evolve(request, url=_target(loaded, position, request.url))
        url = request.url
        run = partial(made, core, call, request, whole=True)
    result = await observed(core, call, run)
    items = items_of(operation, pagination, result.data)
    next = following(
        operation,
        {**plan.defaults, **params},
        position,
        url=url,
        data=result.data,
        headers=result.headers,
        count=len(items),
    )
    return _Page(loaded, items[mark.skip :], mark.skip, next, result)


def _target(loaded: Loaded, position: Position, url: str) -> str:
    if position.url is None:
        return url
    require_host(loaded, position.url)
    return position.url


def _digest(position: Position) -> bytes:
    text = f"{position.url}\n{position.value!r}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _ends(page: _Page) -> tuple[Any, ...] | None:
    """What tells a page by number from the one before it: a provider that ignores the number repeats the page."""
    if page.next is None or not isinstance(page.next.value, int) or page.skipped or not page.items:
        return None
    first, last = page.items[0], page.items[-1]
    return (first, last, len(page.items)) if isinstance(first, dict) and isinstance(last, dict) else None


def _pages_for(limit: int | None, max_pages: int | None) -> int | None:
    """``max_pages``, or none at all where no item is wanted.

    Raises:
        BadInput: one is below 0.
    """
    for name, value in (("limit", limit), ("max_pages", max_pages)):
        if value is not None and (isinstance(value, bool) or value < 0):
            raise BadInput(f"{name} is a count, 0 or more.", field=name)
    return 0 if limit == 0 else max_pages
