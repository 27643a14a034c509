"""Calling the provider: load, permit, build, send, read the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from ..call_specs import OperationCall, RetryPolicy
from ..errors import BadInput, EgressDenied, RequestTimeout, ResponseInvalid
from ..exchange import Answer
from ..http import HttpRequest, HttpResponse
from ..model import OperationResult
from ..secret import SecretStr
from ..specs import ApiSpec, Operation
from .call import Call
from .capabilities import permit
from .core import Core, Loaded
from .exchanges import run as exchange
from .keyed import key_of, keyed
from .load import load
from .observed import observed
from .refresh import ensure_fresh
from .requests import Plan, build, compile_plan, parts
from .sending import outcome_unknown, send


async def execute(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    *,
    idempotency_key: str | None,
    deadline: float | None,
    retry: RetryPolicy | None,
    background: bool,
) -> OperationResult:
    """One call of an operation; see ``Runtime.execute``."""
    call: Call | None = None
    try:
        async with asyncio.timeout(deadline):
            loaded = await load(core, connection_id)
            plan = plan_of(core, loaded, operation_id)
            permit(loaded, plan.operation)
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
            run: Callable[[], Awaitable[OperationResult]]
            if plan.operation.call is not None:
                asked = parts(plan, params or {}, idempotency_key=key, timeout=call.timeout)
                run = partial(_exchanged, core, call, asked)
            else:
                request = build(plan, params or {}, idempotency_key=key, timeout=call.timeout)
                run = partial(made, core, call, request)
            if key is not None:
                run = partial(keyed, core, call, params or {}, run, _read)
            return await observed(core, call, run)
    except TimeoutError:
        if call is not None and call.doubt is not None:
            raise outcome_unknown(call) from call.doubt
        raise RequestTimeout(
            f"{operation_id} was not done within {deadline:g} s.",
            metadata=None if call is None or call.ledger_key is None else {"idempotency_key": call.ledger_key},
        ) from None


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


async def made(core: Core, call: Call, request: HttpRequest) -> OperationResult:
    """The result of a call over plain HTTP."""
    response = await send(core, call, request)
    return _result(call, response, _data(call.operation, response))


async def _exchanged(core: Core, call: Call, asked: OperationCall) -> OperationResult:
    return _read(call, await exchange(core, call, asked))


def _read(call: Call, answer: Answer) -> OperationResult:
    return _result(call, answer.response, answer.data)


def _result(call: Call, response: HttpResponse, data: Any) -> OperationResult:
    api: ApiSpec | None = call.loaded.instance.spec.api
    return OperationResult(
        status=response.status,
        data=data,
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
    return loaded.signer.sign(request, loaded.key, core.signing_context(remembered))


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


def require_host(loaded: Loaded, url: str) -> None:
    """Refuse a URL to which the connection's credential does not go.

    Raises:
        EgressDenied: it is on another host.
    """
    if not loaded.instance.allows(url):
        raise EgressDenied(
            f"A credential of {loaded.instance.id} goes only to its own hosts, and this URL is on another one.",
            plugin=loaded.instance.id,
            hint=f"Its hosts: {', '.join(loaded.instance.hosts) or 'none'}.",
        )


def _data(operation: Operation, response: HttpResponse) -> Any:
    if not response.body:
        return None
    if operation.answer == "bytes":
        return response.body
    if operation.answer == "text":
        return response.body.decode("utf-8", "replace")
    try:
        # JSON between systems is UTF-8 (RFC 8259 §8.1); decoding here saves the guess that json.loads makes of bytes.
        return json.loads(response.body.decode())
    except (ValueError, RecursionError):
        kind = response.content_type or "no content type"
        raise ResponseInvalid(
            f"The answer to {operation.id} is not JSON ({kind}, {len(response.body)} bytes)."
        ) from None
