"""The attempts of a call: reserve, sign, send, classify, and again where the rules allow it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from attrs import evolve

from ..auth.dpop_nonces import wanted_nonce
from ..errors import (
    BadInput,
    OutcomeUnknown,
    ProviderError,
    ProviderUnauthorized,
    RequestTimeout,
    ServicesError,
    SigningError,
    TransportError,
)
from ..http import HttpRequest, HttpResponse
from ..secret import SecretStr
from .breaker import Breaker
from .budget import is_news, is_reserved, put_back, reserve, settle
from .call import Call
from .circuits import admitted, host_answered, host_failed, is_open, require_closed
from .core import Core, Loaded
from .load import load
from .observed import attempt, retrying
from .outcomes import error_for, throttle_in
from .refresh import ensure_fresh, refresh
from .retry import (
    EARLY,
    IDEMPOTENT,
    NEVER,
    REFUSED,
    SAFE,
    UNAUTHORIZED,
    UNREADABLE,
    Again,
    Repeats,
    decide,
    of_status,
    rule_of,
)

Failure = Callable[[HttpResponse], ServicesError | None]

_REPORT = 1.0
"""Seconds before the deadline at which a request is given up, so that the transport can say how far it came."""


async def send(
    core: Core,
    call: Call,
    request: HttpRequest,
    *,
    failure: Failure | None = None,
    accept: tuple[int, ...] = (),
    safe: bool | None = None,
) -> HttpResponse:
    """The answer to one request of ``call`` that is a success: 200–299, or a status that is accepted.

    Args:
        core: the runtime's parts.
        call: the call that it belongs to.
        request: final, but not signed.
        failure, accept, safe: as in :class:`go_services_core.exchange.Send`.

    Raises:
        ProviderError: what the last answer means.
        OutcomeUnknown: there was none, and the request may have been carried out.
        TransportError: there was none, and repeating the call does nothing more.
    """
    if core.retry_debts:
        _earn(core, call)
    attempts = 0
    call.renewed = False
    while True:
        try:
            outcome = await _attempt(core, call, request, failure, accept)
        except asyncio.CancelledError:
            # Nobody is asked again. Only where it was the call's own deadline, it matters what was left open.
            if call.under_way and repeats(call, request, safe) in ("keyed", "neither"):
                call.doubt = call.doubt or RequestTimeout(f"{call.operation.id} was not done in time.")
            raise
        except ServicesError as error:
            _end(call, error)
        if isinstance(outcome, HttpResponse):
            call.doubt = None
            return outcome
        attempts += 1
        delay = _delay(core, call, request, outcome, attempts, safe)
        if delay is None:
            _end(call, outcome)
        retrying(core, call, outcome, delay)
        await core.clock.sleep(delay)


async def _attempt(
    core: Core, call: Call, request: HttpRequest, failure: Failure | None, accept: tuple[int, ...]
) -> HttpResponse | Exception:
    """The answer where it is a success, else what it means. What is raised is no outcome of the request."""
    if call.attempts:
        call.loaded = await load(core, call.loaded.connection.id)
    if call.loaded.renew_at is not None:
        call.loaded = await ensure_fresh(core, call.loaded)
    call.led_on = False
    try:
        response = await _exchange(core, call, request)
    except (ProviderError, TransportError, SigningError, BadInput) as failed:
        return failed
    loaded = call.loaded
    success = 200 <= response.status < 300
    told = failure(response) if failure is not None else None
    refused = isinstance(told, ProviderUnauthorized) or (not success and is_refused(core, loaded, response))
    if refused and loaded.credential.refreshable and not call.renewed:
        call.renewed = True
        core.forget(loaded.connection.id)
        renewed = await refresh(core, loaded.connection.id, used=loaded.credential.version, refused=True)
        again = not request.is_once and not call.led_on
        if renewed.credential.version != loaded.credential.version and again:
            call.loaded = renewed
            return await _attempt(core, call, request, failure, accept)
    error: Exception | None = told
    if error is None:
        instance = loaded.instance
        if not success and response.status not in accept:
            error = error_for(core, instance, response, secrets=secrets_of(loaded))
        elif instance.spec.api is not None and instance.spec.api.throttled:
            error = throttle_in(core, instance, response, secrets_of(loaded))
    if error is None:
        return response
    if isinstance(error, ProviderUnauthorized):
        core.forget(loaded.connection.id)
    return error


async def _exchange(core: Core, call: Call, request: HttpRequest) -> HttpResponse:
    """One request and its answer, whatever its status, within budget, circuit and deadline."""
    if core.breakers.watched:
        require_closed(core, call, request)  # before it waits for units
    waited = not is_reserved(call) and await reserve(core, call, request)
    sent = request
    begun = probe = False
    breaker: Breaker | None = None
    response: HttpResponse | None = None
    try:
        if waited:
            await _look_again(core, call)
        if core.breakers.watched:
            breaker, probe = admitted(core, call, request)
        left = call.until - core.clock.monotonic()
        if request.timeout is None or request.timeout > left - _REPORT:
            sent = _within(call, request, left)
        call.attempts += 1
        call.under_way = begun = True
        call.at = request.url
        response = await attempt(core, call, sent)
        call.under_way = False
        if response.status >= 500 and of_status(response.status).counts:
            host_failed(core, call, request, breaker, probe=probe)
        elif breaker is not None:
            host_answered(core, call, request, breaker, probe=probe)
    except ServicesError as error:
        # A time that the caller cut short says nothing of the host.
        if call.under_way and rule_of(error).counts and not (sent is not request and isinstance(error, RequestTimeout)):
            host_failed(core, call, request, breaker, probe=probe)
        call.under_way = False
        raise
    finally:
        if probe and breaker is not None:
            breaker.abandoned()
        if not begun:
            put_back(call)
        elif response is not None and is_news(call, response):
            await settle(core, call, response)
    return response


async def _look_again(core: Core, call: Call) -> None:
    """The call has waited: meanwhile its connection may have ended, or got another credential."""
    before = call.loaded
    call.loaded = await ensure_fresh(core, await load(core, before.connection.id))
    call.loaded.buckets.update(before.buckets)  # where this call's units are from


def _within(call: Call, request: HttpRequest, left: float) -> HttpRequest:
    """``request`` with a time that ends before the call's deadline."""
    if left <= 0:
        raise RequestTimeout(f"{call.operation.id} was not done in time.", sent=False)
    seconds = min(left - min(_REPORT, left * 0.1), call.timeout if request.timeout is None else request.timeout)
    return evolve(request, timeout=seconds)


# --- again, or the end ---------------------------------------------------------------------------------------------


def repeats(call: Call, request: HttpRequest, safe: bool | None) -> Repeats:
    """What repeating ``request`` does: by the step of the exchange, the operation's record, then the method."""
    own = call.operation.idempotent if request.method == call.operation.method.upper() else None
    if safe or (safe is None and request.method in SAFE and own is not False):
        return "safe"
    if safe is None and (own or (own is None and request.method in IDEMPOTENT)):
        return "idempotent"
    key = call.idempotency_key
    return "keyed" if key is not None and any(value == key for _, value in request.headers) else "neither"


def _delay(
    core: Core, call: Call, request: HttpRequest, error: Exception, attempts: int, safe: bool | None
) -> float | None:
    """Seconds until the request is made again, or None where ``error`` is the end; the error says so then."""
    rule = rule_of(error)
    kind = repeats(call, request, safe)
    decision = decide(
        rule,
        kind,
        call.retry,
        attempts=attempts,
        asked=getattr(error, "retry_after", None),
        left=call.until - core.clock.monotonic(),
        chance=int.from_bytes(core.clock.random(4), "big") / 2**32,
    )
    # It was carried out, and where its answer was to be read there was none.
    lost = call.led_on and kind in ("keyed", "neither") and (bool(rule.again) or rule is UNAUTHORIZED)
    if kind in rule.unknown or lost:
        call.doubt = call.doubt or error
    elif rule in (REFUSED, UNREADABLE) and getattr(error, "upstream_status", None) not in EARLY:
        call.doubt = None  # the provider has answered
    if (
        isinstance(decision, Again)
        and not request.is_once
        and not (lost and kind == "neither")
        and not is_open(core, call, request)
        and _pays(core, call)
    ):
        return decision.delay
    if isinstance(error, (ProviderError, TransportError)):
        error.attempts = call.attempts
        if rule.again or rule is NEVER:
            error.retryable = kind in rule.again
    return None


def _end(call: Call, error: Exception) -> NoReturn:
    """Raise what a call ends with: ``error``, unless an attempt left open whether it was carried out."""
    if call.doubt is not None:
        raise outcome_unknown(call) from call.doubt
    raise error


def outcome_unknown(call: Call) -> OutcomeUnknown:
    """What a call ends with whose request may have been carried out; ``call.doubt`` is its cause."""
    provider_id, operation_id = call.loaded.instance.id, call.operation.id
    metadata = {"provider": provider_id, "operation": operation_id}
    hint = "Look whether it was, before it is called again."
    if call.idempotency_key is not None:
        metadata["idempotency_key"] = call.idempotency_key
        hint = "Call it again with the same idempotency key: that does it once."
    return OutcomeUnknown(
        f"Nobody knows whether {provider_id} carried out {operation_id}: {call.doubt}",
        hint=hint,
        plugin=provider_id,
        metadata=metadata,
        attempts=call.attempts,
    )


def _earn(core: Core, call: Call) -> None:
    """A first attempt pays back a part of a repetition."""
    provider_id = call.loaded.instance.id
    debt = core.retry_debts.get(provider_id, 0.0) - call.retry.share
    if debt > 0:
        core.retry_debts[provider_id] = debt
    else:
        core.retry_debts.pop(provider_id, None)


def _pays(core: Core, call: Call) -> bool:
    """Take a repetition from what the provider's calls have together; False where none is left."""
    provider_id = call.loaded.instance.id
    debt = core.retry_debts.get(provider_id, 0.0) + 1
    if debt > call.retry.burst:
        return False
    core.retry_debts[provider_id] = debt
    return True


def is_refused(core: Core, loaded: Loaded, response: HttpResponse) -> bool:
    """Whether the credential is what is wrong: a 401 says so, unless it only asks for a nonce, or the kind's flow."""
    if response.status == 401:
        return not (loaded.bound and wanted_nonce(response) is not None)
    says = getattr(core.flow(loaded.key.auth.kind), "refused", None)
    return says is not None and bool(says(response))


def secrets_of(loaded: Loaded) -> tuple[SecretStr | None, ...]:
    """What must not be repeated from an answer."""
    tokens = loaded.credential.tokens
    return (tokens.access_token, tokens.refresh_token, tokens.id_token, *tokens.extra.values())
