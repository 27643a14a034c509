"""Calls that a transport kind shapes: driving its exchange, each request of which is sent as any other."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

from ..errors import BadInput, RequestTimeout, ServicesError
from ..exchange import Answer, CallTransport, Exchange, Send, Wait
from .call import Call
from .core import Core
from .sending import send

if TYPE_CHECKING:
    from ..call_specs import OperationCall


def transport_of(core: Core, kind: str) -> CallTransport:
    """The object of a transport kind, made when it is first used.

    Raises:
        BadInput: no plugin offers the kind.
    """
    found = core.kinds.get(kind)
    if found is None:
        found = core.kinds[kind] = core.open_kind(kind)
    if not hasattr(found, "exchange"):
        raise BadInput(f"The transport kind {kind} does not shape calls.", field="call")
    return cast("CallTransport", found)


async def run(core: Core, call: Call, asked: OperationCall) -> Answer:
    """Drive the exchange of ``asked`` to its end.

    Raises:
        RequestTimeout: it wants to wait for longer than the call has time.
        ServicesError: what a request ended with, or what the exchange makes of it.
    """
    exchange: Exchange = transport_of(core, asked.record.kind).exchange(asked)
    answer: Answer = await drive(core, call, exchange)
    return answer


async def drive(core: Core, call: Call, steps: Generator[Send | Wait, Any, Any]) -> Any:
    """Take every step of ``steps`` for ``call``; gives what they return. Raises as :func:`run`."""
    answer = None
    error: ServicesError | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as done:
            return done.value
        answer, error = None, None
        try:
            answer = await _take(core, call, step)
        except ServicesError as failed:
            error = failed


async def _take(core: Core, call: Call, step: Send | Wait) -> object:
    if isinstance(step, Send):
        return await send(core, call, step.request, failure=step.failure, accept=step.accept, safe=step.safe)
    if core.clock.monotonic() + step.seconds > call.until:
        raise RequestTimeout(f"{call.operation.id} was not done in time; the provider is still working on it.")
    await core.clock.sleep(step.seconds)
    return None
