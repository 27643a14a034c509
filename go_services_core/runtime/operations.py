"""Calling the provider: load, permit, build, send, read the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..call_specs import OperationCall, RetryPolicy
from ..errors import BadInput, RequestTimeout
from ..exchange import Answer
from ..http import HttpRequest, HttpResponse
from ..model import OperationResult
from ..secret import SecretStr
from ..specs import ApiSpec, Operation
from .answers import decoded, mapped
from .call import Call
from .call_tokens import with_token
from .core import Core, Loaded
from .exchanges import asked_of, kind_of, run, sender_of
from .hosts import require_host
from .keyed import key_of, keyed
from .load import cached, load
from .observed import observed, permitted
from .refresh import ensure_fresh
from .requests import Plan, build, compile_plan
from .sending import outcome_unknown, send

if TYPE_CHECKING:
    from .receiving import Receiver


async def execute(
    core: Core,
    connection_id: str,
    operation_id: str | None,
    params: Mapping[str, Any] | None,
    *,
    method: str | None,
    path: str | None,
    body: Any,
    headers: Mapping[str, str] | None,
    idempotency_key: str | None,
    deadline: float | None,
    retry: RetryPolicy | None,
    background: bool,
    loaded: Loaded | None = None,
) -> OperationResult:
    """One call of an operation or endpoint; see ``Runtime.execute``."""
    end = None if deadline is None else asyncio.get_running_loop().time() + deadline
    loaded = loaded or cached(core, connection_id)
    if loaded is None:
        try:
            async with asyncio.timeout_at(end):
                loaded = await load(core, connection_id)
        except TimeoutError:
            late = f"{operation_id or 'The call'} was not done within {deadline:g} s."
            raise RequestTimeout(late, sent=False) from None
    if method is None and path is None and body is None and headers is None and operation_id is not None:
        plan = plan_of(core, loaded, operation_id)
    else:
        plan, params = _endpoint(core, loaded, operation_id, params, method, path, body, headers)
    permitted(core, loaded, plan.operation)
    key = key_of(core, plan, idempotency_key)
    call = started(
        core,
        loaded,
        plan.operation,
        idempotency_key=key if plan.idempotency_header is not None else None,
        ledger_key=key,
        deadline=deadline,
        retry=retry,
        background=background,
    )
    go = _way(core, call, plan, params or {}, deadline)
    if key is not None:
        go = partial(keyed, core, call, params or {}, go, made_of)
    if end is not None:
        go = partial(_in_time, call, go, end)
    return await observed(core, call, go)


async def _in_time(call: Call, go: Callable[[], Awaitable[OperationResult]], end: float) -> OperationResult:
    """The result of ``go``, which has until ``end`` by the loop's time."""
    try:
        async with asyncio.timeout_at(end):
            return await go()
    except TimeoutError:
        if call.doubt is not None:
            raise with_token(call, outcome_unknown(call)) from call.doubt
        late = RequestTimeout(f"{call.operation.id} was not done by its deadline.", sent=call.attempts > 0)
        if call.ledger_key is not None:
            late.metadata["idempotency_key"] = call.ledger_key
        raise with_token(call, late) from None


def _way(
    core: Core, call: Call, plan: Plan, params: Mapping[str, Any], deadline: float | None
) -> Callable[[], Awaitable[OperationResult]]:
    """What makes the call: over plain HTTP, or as its transport kind does."""
    record = plan.operation.call
    if record is not None:
        kind = kind_of(core, record.kind)
        if hasattr(kind, "exchange"):
            longest = getattr(record, "longest", None)
            if deadline is None and longest is not None:
                call.until = core.clock.monotonic() + longest
            return partial(exchanged, core, call, asked_of(core, call, plan, params))
        call.transport = sender_of(kind)
        if call.transport is None:
            raise BadInput(f"Operation {plan.operation.id} gives items one by one.", hint="Use Runtime.stream.")
    request = build(plan, params, idempotency_key=call.idempotency_key, timeout=call.timeout)
    return partial(made, core, call, request)


def _endpoint(
    core: Core,
    loaded: Loaded,
    operation_id: str | None,
    params: Mapping[str, Any] | None,
    method: str | None,
    path: str | None,
    body: Any,
    headers: Mapping[str, str] | None,
) -> tuple[Plan, Mapping[str, Any]]:
    from .endpoints import carried_at, endpoint

    if operation_id is not None:
        raise BadInput(
            "A call names an operation, or an endpoint by method and path, with its body and headers; not both.",
            hint="Parameters of an operation go into params, whatever their place.",
            field="operation",
        )
    if method is None or path is None:
        raise BadInput("A call names an operation, or an endpoint by both method and path.", field="operation")
    made = endpoint(loaded.instance, method, path, params or {}, body=body, headers=headers or {})
    for operation in carried_at(loaded.instance, method, path, params or {}):
        permitted(core, loaded, operation)
    return made


def started(
    core: Core,
    loaded: Loaded,
    operation: Operation,
    *,
    idempotency_key: str | None = None,
    ledger_key: str | None = None,
    deadline: float | None = None,
    retry: RetryPolicy | None = None,
    background: bool = False,
) -> Call:
    """A call of ``operation`` that begins now."""
    api = loaded.instance.spec.api
    policy = retry or operation.retry or (api.retry if api is not None else RetryPolicy())
    return Call(
        loaded=loaded,
        operation=operation,
        retry=policy,
        timeout=policy.attempt_timeout or core.settings.default_timeout,
        until=core.clock.monotonic() + (core.settings.call_deadline if deadline is None else deadline),
        idempotency_key=idempotency_key,
        ledger_key=ledger_key,
        background=background,
    )


async def made(core: Core, call: Call, request: HttpRequest, *, whole: bool = False) -> OperationResult:
    """The result of a call over plain HTTP; ``whole`` has all of the answer instead of what ``result`` names."""
    response = await send(core, call, request)
    return _result(call, response, decoded(call.operation, response), whole)


async def exchanged(
    core: Core, call: Call, asked: OperationCall, *, receiver: Receiver | None = None, whole: bool = False
) -> OperationResult:
    """The same of a call that its transport kind shapes."""
    return made_of(call, await run(core, call, asked, receiver=receiver), whole=whole)


def made_of(call: Call, answer: Answer, *, whole: bool = False) -> OperationResult:
    """The result in an answer of an exchange."""
    return _result(call, answer.response, answer.data, whole)


def _result(call: Call, response: HttpResponse, data: Any, whole: bool) -> OperationResult:
    api: ApiSpec | None = call.loaded.instance.spec.api
    return OperationResult(
        status=response.status,
        data=data if whole else mapped(call.operation, data),
        headers=response.headers,
        attempts=call.attempts,
        request_id=response.header(api.request_id_header) if api is not None else None,
        idempotency_key=call.ledger_key,
    )


async def sign(core: Core, connection_id: str, request: HttpRequest, *, nonce: str | None) -> HttpRequest:
    """A signed copy of the caller's own request; see ``Runtime.sign``."""
    loaded = await ensure_fresh(core, await load(core, connection_id))
    require_host(loaded, request.url)
    if nonce is not None:
        if not loaded.bound:
            raise BadInput("The connection's token is not bound to a DPoP key and takes no nonce.", field="nonce")
        core.nonces.give("resource", request.url, nonce)
    remembered = core.nonces.get("resource", request.url) if loaded.bound else None
    ahead = core.skew.offset(request.url) if loaded.dated else None
    return loaded.signer.sign(request, loaded.key, core.signing_context(remembered, ahead=ahead))


async def token(core: Core, connection_id: str) -> SecretStr:
    """A token that is valid now; see ``Runtime.token``."""
    loaded = await ensure_fresh(core, await load(core, connection_id))
    return loaded.credential.tokens.access_token


def plan_of(core: Core, loaded: Loaded, operation_id: str) -> Plan:
    """The compiled operation of the connection's provider."""
    key = (loaded.instance.id, operation_id)
    plan = core.plans.get(key)
    if plan is None:
        plan = core.plans[key] = compile_plan(loaded.instance, loaded.instance.operation(operation_id))
    return plan
