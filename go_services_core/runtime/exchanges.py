"""Calls that a transport kind shapes: driving its exchange, each request of which is sent as any other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from ..errors import BadInput, ProviderError, RequestTimeout, ServicesError
from ..exchange import Answer, CallTransport, Checkpoint, Receive, Send, Step, Wait
from ..redaction import scrub
from .call import Call
from .call_tokens import with_token
from .core import Core
from .hosts import require_host
from .requests import Plan, parts
from .sending import secrets_of, send

if TYPE_CHECKING:
    from ..call_specs import OperationCall
    from ..http import BodySource, HttpResponse
    from ..protocols import Transport
    from .receiving import Receiver


def kind_of(core: Core, kind: str) -> Any:
    """The object of a transport kind, made when it is first used.

    Raises:
        PluginNotFound: no plugin offers the kind.
    """
    found = core.kinds.get(kind)
    if found is None:
        found = core.kinds[kind] = core.open_kind(kind)
    return found


def sender_of(kind: Any) -> Transport | None:
    """What sends the requests of a kind that does so itself."""
    return cast("Transport", kind) if hasattr(kind, "send") else None


def asked_of(
    core: Core,
    call: Call,
    plan: Plan,
    params: Mapping[str, Any],
    *,
    source: BodySource | None = None,
    content_type: str | None = None,
    filename: str | None = None,
    resume: Mapping[str, Any] | None = None,
) -> OperationCall:
    """What a transport kind gets to know of ``call``; raises as ``requests.build``."""
    asked = parts(plan, params, idempotency_key=call.idempotency_key, timeout=call.timeout)
    api = call.loaded.instance.spec.api
    order = {name: place for place, name in enumerate(plan.params)}
    return evolve(
        asked,
        body=dict(sorted(asked.body.items(), key=lambda item: order.get(item[0], len(order)))),
        provider_id=call.loaded.instance.id,
        base_url=api.base_url.rstrip("/") if api is not None else "",
        params={name: params[name] for name in plan.params if params.get(name) is not None},
        answer=plan.operation.answer,
        random=core.clock.random,
        source=source,
        content_type=content_type,
        filename=filename,
        resume=resume,
    )


async def run(core: Core, call: Call, asked: OperationCall, *, receiver: Receiver | None = None) -> Answer:
    """Drive the exchange of ``asked`` to its end.

    Raises:
        RequestTimeout: it wants to wait for longer than the call has time.
        ServicesError: what a request ended with, or what the exchange makes of it; with a token in ``resume`` where the
            exchange had got somewhere.
    """
    kind: CallTransport = kind_of(core, asked.record.kind)
    call.transport = sender_of(kind)
    try:
        answer: Answer = await drive(core, call, kind.exchange(asked), receiver=receiver)
    except ServicesError as ended:
        with_token(call, ended)
        raise
    return answer


async def drive(core: Core, call: Call, steps: Generator[Step, Any, Any], *, receiver: Receiver | None = None) -> Any:
    """Take every step of ``steps`` for ``call``; gives what they return. Raises as :func:`run`."""
    answer = None
    error: ServicesError | None = None
    try:
        while True:
            try:
                step = steps.throw(error) if error is not None else steps.send(answer)
            except StopIteration as done:
                return done.value
            answer, error = None, None
            try:
                answer = await _take(core, call, step, receiver)
            except ServicesError as failed:
                error = failed
    finally:
        steps.close()


async def _take(core: Core, call: Call, step: Step, receiver: Receiver | None) -> object:
    if isinstance(step, Send):
        require_host(call.loaded, step.request.url)
        call.signer = step.signer
        try:
            return await send(
                core, call, step.request, failure=_told(call, step.failure), accept=step.accept, safe=step.safe
            )
        finally:
            call.signer = None
    if isinstance(step, Receive):
        if receiver is None:
            raise BadInput(f"Operation {call.operation.id} gives a file.", hint="Use Runtime.download.")
        require_host(call.loaded, step.request.url)
        return await receiver.receive(core, call, step)
    if isinstance(step, Checkpoint):
        call.checkpoint = step
    else:
        await _wait(core, call, step)
    return None


async def _wait(core: Core, call: Call, step: Wait) -> None:
    if core.clock.monotonic() + step.seconds > call.until:
        raise RequestTimeout(f"{call.operation.id} was not done in time; the provider is still working on it.")
    await core.clock.sleep(step.seconds)


def _told(
    call: Call, failure: Callable[[HttpResponse], ServicesError | None] | None
) -> Callable[[HttpResponse], ServicesError | None] | None:
    """``failure``, whose provider errors also say what an exchange does not know."""
    if failure is None:
        return None

    def told(response: HttpResponse) -> ServicesError | None:
        error = failure(response)
        if isinstance(error, ProviderError):
            api = call.loaded.instance.spec.api
            error.plugin = error.plugin or call.loaded.instance.id
            error.request_id = error.request_id or (response.header(api.request_id_header) if api is not None else None)
            if error.excerpt is None:
                error.excerpt = scrub(response.body.decode("utf-8", "replace"), secrets_of(call.loaded))
        return error

    return told
