"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urljoin

from attrs import evolve

from ..auth.identity import pick
from ..errors import BadInput, ResponseInvalid
from .capabilities import permit
from .core import Core
from .hosts import require_host
from .links import next_link
from .load import load
from .observed import observed
from .operations import made, plan_of, started
from .requests import build


async def paginate(
    core: Core, connection_id: str, operation_id: str, params: Mapping[str, Any] | None, *, limit: int | None
) -> AsyncIterator[Any]:
    """The items of a list, page after page; see ``Runtime.paginate``."""
    loaded = await load(core, connection_id)
    plan = plan_of(core, loaded, operation_id)
    pagination = plan.operation.pagination
    if pagination is None:
        raise BadInput(f"Operation {operation_id} is not a list of pages.", hint="Use execute.", field="operation")
    permit(loaded, plan.operation)
    request = build(plan, params or {}, idempotency_key=None, timeout=core.settings.default_timeout)
    given = 0
    while True:
        call = started(core, await load(core, connection_id), plan.operation)
        result = await observed(core, call, partial(made, core, call, request))
        items = result.data if pagination.items is None else pick(result.data, pagination.items)
        if not isinstance(items, list):
            where = f"at {pagination.items!r}" if pagination.items else "as its answer"
            raise ResponseInvalid(f"Operation {operation_id} has no list {where}.", plugin=loaded.instance.id)
        for item in items:
            if limit is not None and given >= limit:
                return
            given += 1
            yield item
        link = next_link(result.headers)
        if link is None or (limit is not None and given >= limit):
            return
        following = urljoin(request.url, link)
        if following == request.url:
            raise ResponseInvalid(f"Operation {operation_id} names the same page as the next one.")
        require_host(loaded, following)
        request = evolve(request, url=following)
