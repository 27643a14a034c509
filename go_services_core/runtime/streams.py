"""Answers that give items one by one."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any, cast

from ..errors import BadInput, ServicesError
from ..exchange import Reading, StreamKind
from .call import Call
from .core import Core
from .exchanges import asked_of, kind_of, sender_of
from .hosts import require_host
from .load import load
from .observed import observed, permitted
from .opening import opened
from .operations import plan_of, started


async def stream(
    core: Core, connection_id: str, operation_id: str, params: Mapping[str, Any] | None, *, limit: int | None
) -> AsyncIterator[Any]:
    """The items of a stream, as they come; see ``Runtime.stream``."""
    loaded = await load(core, connection_id)
    plan = plan_of(core, loaded, operation_id)
    record = plan.operation.call
    kind = kind_of(core, record.kind) if record is not None else None
    if not hasattr(kind, "reading"):
        raise BadInput(f"Operation {operation_id} is not a stream.", hint="Use execute.", field="operation")
    permitted(core, loaded, plan.operation)
    first = started(core, loaded, plan.operation)
    reading: Reading = cast("StreamKind", kind).reading(asked_of(core, first, plan, params or {}))
    given = 0
    while limit is None or given < limit:
        call = started(core, await load(core, connection_id), plan.operation)
        call.until = math.inf
        call.transport = sender_of(kind)
        try:
            async with aclosing(_read(core, call, reading)) as items:
                async for item in items:
                    given += 1
                    yield item
                    if given == limit:
                        return
            wait = reading.again()
        except ServicesError as error:
            wait = reading.again() if error.retryable else None
            if wait is None:
                raise
        if wait is None:
            return
        await core.clock.sleep(wait)


async def _read(core: Core, call: Call, reading: Reading) -> AsyncGenerator[Any]:
    """The items of one answer. The next bytes are asked for when the item before them was taken, and no earlier."""
    request = reading.request()
    require_host(call.loaded, request.url)
    async with AsyncExitStack() as stack:
        head, response = await observed(core, call, partial(stack.enter_async_context, opened(core, call, request)))
        reading.opened(head)
        if response is not None:
            async for piece in response.pieces:
                for item in reading.feed(piece):
                    yield item
        for item in reading.end():
            yield item
