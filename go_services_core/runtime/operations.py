"""Calling the provider: load, permit, renew, build, sign the final bytes, send, classify."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urljoin

from ..auth.dpop_nonces import wanted_nonce
from ..auth.identity import pick
from ..errors import (
    BadInput,
    EgressDenied,
    PermissionDenied,
    ProviderUnauthorized,
    RequestTimeout,
    ResponseInvalid,
    failure_code,
)
from ..http import HttpRequest, HttpResponse
from ..model import Decision, Observation, OperationResult
from ..secret import SecretStr
from ..specs import Operation
from .core import Core, Loaded
from .grants import decide, tells_grants
from .links import next_link
from .load import load
from .outcomes import error_for
from .refresh import ensure_fresh, refresh
from .requests import Plan, build, compile_plan
from .signed import send_signed


async def execute(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    *,
    idempotency_key: str | None,
    deadline: float | None,
) -> OperationResult:
    """One call of an operation; see ``Runtime.execute``."""
    if deadline is None:
        timeout = core.settings.default_timeout
        return await _execute(core, connection_id, operation_id, params, idempotency_key, timeout)
    try:
        async with asyncio.timeout(deadline):
            return await _execute(core, connection_id, operation_id, params, idempotency_key, deadline)
    except TimeoutError:
        raise RequestTimeout(f"{operation_id} was not done within {deadline:g} s.") from None


async def _execute(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    idempotency_key: str | None,
    timeout: float,
) -> OperationResult:
    loaded = await load(core, connection_id)
    plan = _plan(core, loaded, operation_id)
    _permit(loaded, plan.operation)
    request = build(plan, params or {}, idempotency_key=idempotency_key, timeout=timeout)
    return await _observed(core, loaded, plan.operation, request)


async def paginate(
    core: Core, connection_id: str, operation_id: str, params: Mapping[str, Any] | None, *, limit: int | None
) -> AsyncIterator[Any]:
    """The items of a list, page after page; see ``Runtime.paginate``."""
    loaded = await load(core, connection_id)
    plan = _plan(core, loaded, operation_id)
    pagination = plan.operation.pagination
    if pagination is None:
        raise BadInput(f"Operation {operation_id} is not a list of pages.", hint="Use execute.", field="operation")
    _permit(loaded, plan.operation)
    request = build(plan, params or {}, idempotency_key=None, timeout=core.settings.default_timeout)
    given = 0
    while True:
        loaded = await load(core, connection_id)
        result = await _observed(core, loaded, plan.operation, request)
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
        _require_host(loaded, following)
        request = request.with_url(following)


async def sign(core: Core, connection_id: str, request: HttpRequest, *, nonce: str | None) -> HttpRequest:
    """A signed copy of the caller's own request; see ``Runtime.sign``."""
    loaded = await ensure_fresh(core, await load(core, connection_id))
    _require_host(loaded, request.url)
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


async def can(core: Core, connection_id: str, capability: str) -> Decision:
    """Whether a capability may be used; see ``Runtime.can``."""
    return _decision(await load(core, connection_id), capability)


def _plan(core: Core, loaded: Loaded, operation_id: str) -> Plan:
    key = (loaded.instance.id, operation_id)
    plan = core.plans.get(key)
    if plan is None:
        plan = core.plans[key] = compile_plan(loaded.instance, loaded.instance.operation(operation_id))
    return plan


def _decision(loaded: Loaded, name: str) -> Decision:
    decision = loaded.decisions.get(name)
    if decision is None:
        capability = loaded.instance.capability(name)
        decision = decide(
            capability,
            loaded.credential.granted,
            loaded.instance.spec.implies,
            tells=tells_grants(loaded.key.auth),
        )
        loaded.decisions[name] = decision
    return decision


def _permit(loaded: Loaded, operation: Operation) -> None:
    if operation.capability is None:
        return
    decision = _decision(loaded, operation.capability)
    if not decision.allowed:
        raise PermissionDenied(
            f"Operation {operation.id} needs the capability {decision.capability}: {decision.reason}.",
            hint="Ask for it with Runtime.reconsent, or connect with a credential that has it.",
            plugin=loaded.instance.id,
            metadata={"missing": list(decision.missing), "connection_id": loaded.connection.id},
        )


def _require_host(loaded: Loaded, url: str) -> None:
    if not loaded.instance.allows(url):
        raise EgressDenied(
            f"A credential of {loaded.instance.id} goes only to its own hosts, and this URL is on another one.",
            plugin=loaded.instance.id,
            hint=f"Its hosts: {', '.join(loaded.instance.hosts) or 'none'}.",
        )


async def _observed(core: Core, loaded: Loaded, operation: Operation, request: HttpRequest) -> OperationResult:
    if not core.observers:
        return await _call(core, loaded, operation, request)
    began = core.clock.monotonic()
    failed: BaseException | None = None
    try:
        return await _call(core, loaded, operation, request)
    except BaseException as error:
        failed = error
        raise
    finally:
        core.observe(
            Observation(
                name="operation",
                at=core.clock.now(),
                ok=failed is None,
                duration_ms=(core.clock.monotonic() - began) * 1000,
                provider_id=loaded.instance.id,
                connection_id=loaded.connection.id,
                error_code=failure_code(failed),
                detail={"operation": operation.id},
            )
        )


async def _call(core: Core, loaded: Loaded, operation: Operation, request: HttpRequest) -> OperationResult:
    """Send; if the credential is refused renew once and send once more, unless the credential did not change."""
    loaded = await ensure_fresh(core, loaded)
    response = await _send(core, loaded, operation, request)
    attempts = 1
    if not 200 <= response.status < 300 and loaded.credential.refreshable and _is_refused(core, loaded, response):
        core.forget(loaded.connection.id)
        renewed = await refresh(core, loaded.connection.id, used=loaded.credential.version, refused=True)
        if renewed.credential.version != loaded.credential.version:
            loaded, attempts = renewed, 2
            response = await _send(core, loaded, operation, request)
    if not 200 <= response.status < 300:
        error = error_for(core, loaded.instance, response, secrets=_secrets(loaded))
        if isinstance(error, ProviderUnauthorized):
            core.forget(loaded.connection.id)
        raise error
    api = loaded.instance.spec.api
    return OperationResult(
        status=response.status,
        data=_data(operation, response),
        headers=response.headers,
        attempts=attempts,
        request_id=response.header(api.request_id_header) if api is not None else None,
    )


def _is_refused(core: Core, loaded: Loaded, response: HttpResponse) -> bool:
    """Whether the credential is what is wrong: a 401 says so, unless it only asks for a nonce, or the kind's flow."""
    if response.status == 401:
        return not (loaded.bound and wanted_nonce(response) is not None)
    says = getattr(core.flow(loaded.key.auth.kind), "refused", None)
    return says is not None and bool(says(response))


async def _send(core: Core, loaded: Loaded, operation: Operation, request: HttpRequest) -> HttpResponse:
    policy = core.ownership[loaded.instance.id].rate_limit_policy
    bucket = f"{loaded.connection.id}:{operation.id}"
    if policy is not None:
        wait = policy.before(bucket)
        if wait > 0:
            await core.clock.sleep(wait)
    if loaded.bound:
        response = await send_signed(core, loaded.signer, loaded.key, request, provider_id=loaded.instance.id)
    else:
        signed = loaded.signer.sign(request, loaded.key, core.signing_context())
        response = await core.transport.send(signed, provider_id=loaded.instance.id)
    if policy is not None:
        policy.after(bucket, response)
    return response


def _secrets(loaded: Loaded) -> tuple[SecretStr | None, ...]:
    tokens = loaded.credential.tokens
    return (tokens.access_token, tokens.refresh_token, tokens.id_token, *tokens.extra.values())


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
