"""Calls that a transport kind shapes: driving its exchange, each request of which is sent as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

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
    answer = None
    error: ServicesError | None = None
    while True:
        try:
            step = exchange.throw(error) if error is not None else exchange.send(answer)
        except StopIteration as done:
            result: Answer = done.value
            return result
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
