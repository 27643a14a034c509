"""What observers and the log are told of calls of providers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from ..errors import PermissionDenied, ProviderError
from ..http import HttpRequest, HttpResponse
from ..model import Observation, OperationResult
from ..specs import Operation
from . import hops, spans
from .capabilities import permit
from .log_lines import logger_of
from .spans import Span, current_span, failure

if TYPE_CHECKING:
    from .call import Call
    from .core import Core, Loaded

T = TypeVar("T")
NAME: Final = "operation"
_logger = logger_of(NAME)


async def observed(core: Core, call: Call, run: Callable[[], Awaitable[T]]) -> T:
    """The result of ``run``, which executes ``call``."""
    if not core.observers and not _logger.isEnabledFor(logging.INFO):
        began = core.clock.monotonic()
        try:
            return await run()
        except BaseException as error:
            _log_failure(core, call, error, (core.clock.monotonic() - began) * 1000)
            raise
    with _span(core, call) as span:
        try:
            result = await run()
        except BaseException as error:
            span.detail |= _ended(call, error)
            raise
        span.detail |= _ended(call, result)
        return result


def permitted(core: Core, loaded: Loaded, operation: Operation) -> None:
    """Refuse an operation whose capability the connection does not have, and tell of it.

    Raises:
        PermissionDenied: it lacks grants; the message names them.
    """
    try:
        permit(loaded, operation)
    except PermissionDenied as error:
        detail = {**_known(loaded, operation), "decision": "blocked", "attempts": 0}
        core.observe(
            Observation(
                name="operation",
                at=core.clock.now(),
                ok=False,
                duration_ms=0.0,
                **_whose(loaded),
                parent=current_span(),
                detail=detail,
                **failure(error),
            ),
            error,
        )
        raise


def retrying(core: Core, call: Call, error: Exception, delay: float) -> None:
    """An attempt of ``call`` ended with ``error``; the next begins in ``delay`` seconds."""
    if core.observers:
        known = _known(call.loaded, call.operation)
        spans.retrying(core, NAME, error, delay, **_whose(call.loaded), **known, attempt=call.attempts)


def attempt(core: Core, call: Call, request: HttpRequest) -> Awaitable[HttpResponse]:
    """``hops.attempt``, told to tracers, with the headers that distributed traces want to send."""
    if not core.observers.tracers:
        return hops.attempt(core, call, request)
    return _attempt(core, call, request)


async def _attempt(core: Core, call: Call, request: HttpRequest) -> HttpResponse:
    operation, host = call.operation, urlsplit(request.url)
    with Span(
        core,
        "attempt",
        **_whose(call.loaded),
        tracers=True,
        operation=operation.id,
        attempt=call.attempts,
        method=request.method,
        scheme=host.scheme,
        server=host.hostname,
        port=host.port,
        template=operation.path,
    ) as span:
        for name, value in span.headers:
            request = request.with_header(name, value)
        response = await hops.attempt(core, call, request)
        span.detail["upstream_status"] = response.status
        return response


def _span(core: Core, call: Call) -> Span:
    span = Span(core, "operation")
    span.about(call.loaded.connection)
    span.detail = _started(call)
    return span


def _log_failure(core: Core, call: Call, error: BaseException, duration: float) -> None:
    core.observe(
        Observation(
            name="operation",
            at=core.clock.now(),
            ok=False,
            duration_ms=duration,
            **_whose(call.loaded),
            detail={**_started(call), **_ended(call, error)},
            **failure(error),
        ),
        error,
    )


def _whose(loaded: Loaded) -> dict[str, Any]:
    connection = loaded.connection
    return {"provider_id": loaded.instance.id, "connection_id": connection.id, "scope": connection.scope}


def _known(loaded: Loaded, operation: Operation) -> dict[str, Any]:
    return {
        "operation": operation.id,
        "declared": loaded.instance.declares(operation.id),
        "method": operation.method,
        "transport_kind": operation.call.kind if operation.call is not None else "rest",
        "capability": operation.capability,
    }


def _started(call: Call) -> dict[str, Any]:
    return {
        **_known(call.loaded, call.operation),
        "decision": "allowed" if call.operation.capability is not None else None,
        "idempotency": call.ledger_key,
    }


def _ended(call: Call, result: object) -> dict[str, Any]:
    """``result`` is an ``OperationResult``, an error, or what a call of another kind gives."""
    if isinstance(result, OperationResult):
        return {
            "attempts": call.attempts,
            "upstream_status": result.status,
            "request_id": result.request_id,
            "idempotency": call.ledger_key,
            "replayed": result.replayed or None,
        }
    status = result.upstream_status if isinstance(result, ProviderError) else getattr(result, "status", None)
    failed = isinstance(result, BaseException) and not isinstance(result, ProviderError)
    return {
        "attempts": call.attempts,
        "upstream_status": None if failed else status,
        "request_id": getattr(result, "request_id", None),
        "idempotency": call.ledger_key,
        "replayed": getattr(result, "replayed", None) or None,
    }
