"""Many calls, so many at once: taken as they are needed, told in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Final

import attrs

from ..calls import CallOutcome, OperationRequest
from ..errors import BadInput, ServicesError
from .core import Core
from .operations import execute

StopOn = type[ServicesError] | tuple[type[ServicesError], ...] | None
_END: Final[Any] = object()


async def batch(
    core: Core,
    calls: Iterable[OperationRequest] | AsyncIterable[OperationRequest],
    *,
    concurrency: int,
    stop_on: StopOn,
) -> AsyncIterator[CallOutcome]:
    """The outcome of each call; see ``Runtime.batch``.

    ``running`` never holds more than ``concurrency`` calls, those that ended and wait to be told included; so nothing
    is taken from ``calls`` that nobody asked for yet.
    """
    check_concurrency(concurrency)
    source = aiter(calls) if isinstance(calls, AsyncIterable) else _each(calls)
    running: deque[asyncio.Task[CallOutcome]] = deque()
    taking: asyncio.Future[Any] | None = None
    failed: Exception | None = None
    ended = False
    taken = 0
    try:
        while running or not ended:
            if taking is None and not ended and len(running) < concurrency:
                taking = asyncio.ensure_future(_next(source))
            waited: list[asyncio.Future[Any]] = [*([taking] if taking else ()), *([running[0]] if running else ())]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if taking is not None and taking.done():
                done, taking = taking, None
                failed = done.exception()  # type: ignore[assignment]
                if failed is not None or done.result() is _END:
                    ended = True
                elif not ended:
                    running.append(asyncio.create_task(_one(core, taken, done.result())))
                    taken += 1
            while running and running[0].done():
                outcome = running.popleft().result()
                ended = ended or stops(outcome, stop_on)
                yield outcome
        if failed is not None:
            raise failed
    finally:
        left = [*running, *([taking] if taking is not None else ())]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


def check_concurrency(concurrency: int) -> None:
    """Refuse what is no number of calls.

    Raises:
        BadInput: it is below 1.
    """
    if isinstance(concurrency, bool) or concurrency < 1:
        raise BadInput("concurrency is how many calls run at once, 1 or more.", field="concurrency")


def stops(outcome: CallOutcome, stop_on: StopOn) -> bool:
    """Whether no further call is to begin."""
    return stop_on is not None and isinstance(outcome.error, stop_on)


async def _each(calls: Iterable[OperationRequest]) -> AsyncIterator[OperationRequest]:
    for call in calls:
        yield call


async def _next(source: AsyncIterator[Any]) -> Any:
    return await anext(source, _END)


async def _one(core: Core, index: int, call: OperationRequest) -> CallOutcome:
    try:
        return CallOutcome(index=index, result=await _made(core, call))
    except Exception as error:  # also a foreign one, such as a classifier's
        return CallOutcome(index=index, error=error)


async def _made(core: Core, call: OperationRequest) -> Any:
    if not isinstance(call, OperationRequest):
        raise BadInput(f"A batch is made of OperationRequest, not {type(call).__name__}.", field="calls")
    arguments = {one.name: getattr(call, one.name) for one in attrs.fields(OperationRequest)}
    connection_id, operation = arguments.pop("connection_id"), arguments.pop("operation")
    return await execute(core, connection_id, operation, arguments.pop("params"), **arguments)
