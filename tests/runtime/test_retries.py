"""Calls that fail and are made again, or not: waits, deadlines, renewals, cancellation and what is kept of it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve

from go_services_core import HttpRequest, Operation, hookimpl
from go_services_core.call_specs import BreakerPolicy, RetryPolicy, Throttled
from go_services_core.errors import (
    ConfigError,
    ConnectFailed,
    OutcomeUnknown,
    ProviderError,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    RequestTimeout,
    TransportError,
)
from go_services_core.http import HttpResponse
from go_services_core.runtime.load import load
from go_services_core.runtime.operations import started
from go_services_core.runtime.sending import send
from go_services_core.testing.rawserver import http_answer

from .calling import OK, Caller, calling, cut, hang, hang_up

ONCE = RetryPolicy(attempts=1)
DOWN = http_answer(503)


def throttled(after: str, status: int = 429) -> bytes:
    return http_answer(status, b"", (("Retry-After", after),))


# --- waits ---------------------------------------------------------------------------------------------------------


async def test_failed_call_is_made_again_after_a_random_time_and_observers_are_told() -> None:
    async with calling(DOWN, DOWN, OK) as caller:
        result = await caller.call()
        assert (result.status, result.attempts, caller.sent) == (200, 3, 3)
        first, second = caller.clock.slept
        assert 0 <= first <= 0.2
        assert 0 <= second <= 0.4
        told = [seen for seen in caller.told if seen.name == "operation" and seen.phase == "retry"]
        assert [(seen.detail["attempt"], seen.detail["delay"]) for seen in told] == [(1, first), (2, second)]
        assert {seen.error_code for seen in told} == {"SERVICE_PROVIDER_OPERATION_FAILED"}


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize("after", ["30", "Thu, 01 Jan 2026 00:00:30 GMT"])
async def test_time_that_the_provider_asks_for_is_waited(status: int, after: str) -> None:
    async with calling(throttled(after, status), OK) as caller:
        assert (await caller.call()).attempts == 2
        (slept,) = caller.clock.slept
        assert 30 <= slept <= 30.2


@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, ProviderUnavailable)])
async def test_provider_that_asks_for_too_long_a_wait_ends_the_call_with_the_time(status: int, error: Any) -> None:
    async with calling(throttled("61", status)) as caller:
        with pytest.raises(error) as ended:
            await caller.call()
        assert ended.value.retry_after == 61
        assert ended.value.retryable
        assert (caller.sent, caller.clock.slept) == (1, [])
    async with calling(throttled("59", status)) as caller:
        with pytest.raises(error):
            await caller.call(retry=RetryPolicy(attempts=2, longest_wait=59))
        assert caller.sent == 2


# --- deadlines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["argument", "setting"])
async def test_wait_that_does_not_fit_the_deadline_ends_the_call_at_once(where: str) -> None:
    settings = {"runtime.call_deadline": 20} if where == "setting" else None
    async with calling(throttled("21"), OK, settings=settings) as caller:
        with pytest.raises(RateLimited) as ended:
            await caller.call(**({"deadline": 20} if where == "argument" else {}))
        assert ended.value.retry_after == 21
        assert (caller.sent, caller.clock.slept) == (1, [])


class Noting:
    """A transport that notes the time that each request has."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.timeouts: list[float] = []

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        assert request.timeout is not None
        self.timeouts.append(request.timeout)
        answer: HttpResponse = await self.inner.send(request, provider_id=provider_id)
        return answer


async def test_attempt_has_its_own_time_and_the_last_one_what_is_left() -> None:
    async with calling(throttled("55"), throttled("50"), OK, transport=Noting) as caller:
        await caller.call(retry=RetryPolicy(attempts=3, attempt_timeout=20.0, first_delay=0.001))
        noted: Any = caller.runtime._core.transport
        assert noted.timeouts[:2] == [20.0, 20.0]
        assert 0 < noted.timeouts[2] < 120 - 105
    async with calling(OK, transport=Noting) as caller:
        await caller.call()
        await caller.call(deadline=10)
        assert caller.runtime._core.transport.timeouts == [30.0, 9.0]  # type: ignore[attr-defined]


async def test_time_that_is_over_before_a_request_sends_nothing() -> None:
    async with calling(OK, settings={"runtime.call_deadline": 5}) as caller:
        core = caller.runtime._core
        call = started(core, await load(core, caller.connection_id), _operation(caller, "call.post"))
        caller.clock.advance(5)
        with pytest.raises(RequestTimeout) as ended:
            await send(core, call, HttpRequest("POST", caller.server.url("/call")))
        assert (ended.value.sent, call.attempts, caller.sent) == (False, 0, 0)


def _operation(caller: Caller, id: str) -> Operation:
    return caller.runtime._core.instances["raw"].operation(id)


class Deaf:
    """A transport that keeps no time."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        answer: HttpResponse = await self.inner.send(evolve(request, timeout=60), provider_id=provider_id)
        return answer


@pytest.mark.parametrize("transport", [None, Deaf])
@pytest.mark.parametrize("kind", ["safe", "idempotent", "keyed", "neither"])
async def test_deadline_while_a_request_is_out_leaves_open_what_must_not_be_done_twice(
    kind: str, transport: Any
) -> None:
    """P81."""
    async with calling(hang, transport=transport) as caller:
        with pytest.raises(TransportError) as ended:
            await asyncio.wait_for(caller.call(kind, deadline=0.2, retry=ONCE), 10)
        assert caller.sent == 1
        if kind in ("safe", "idempotent"):
            assert type(ended.value) is RequestTimeout
            return
        assert type(ended.value) is OutcomeUnknown
        assert isinstance(ended.value.__cause__, RequestTimeout)
        assert ended.value.metadata.get("idempotency_key") == ("key-1" if kind == "keyed" else None)


async def test_deadline_before_a_request_is_out_leaves_nothing_open() -> None:
    async with calling(OK) as caller:
        core = caller.runtime._core

        async def never(sealed: Any, binding: Any) -> Any:
            await asyncio.Event().wait()

        core.forget(caller.connection_id)
        core.sealer = type("Slow", (), {"open": staticmethod(never)})()
        with pytest.raises(RequestTimeout):
            await asyncio.wait_for(caller.call("neither", deadline=0.05), 10)
        assert caller.sent == 0


# --- what may have been done ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [DOWN, throttled("100"), http_answer(500)])
async def test_keyed_call_that_ends_without_an_answer_to_it_is_unknown_by_its_first_doubt(last: bytes) -> None:
    async with calling(hang_up, last) as caller:
        with pytest.raises(OutcomeUnknown) as ended:
            await caller.call("keyed", retry=RetryPolicy(attempts=2))
        assert type(ended.value.__cause__) is TransportError
        assert ended.value.attempts == caller.sent == 2
        assert "same idempotency key" in str(ended.value)


@pytest.mark.parametrize("last", [OK, http_answer(422)])
async def test_answer_to_a_later_attempt_settles_a_keyed_call(last: bytes) -> None:
    """P80."""
    async with calling(cut, last) as caller:
        if last is OK:
            assert (await caller.call("keyed")).status == 200
        else:
            with pytest.raises(ProviderError) as refused:
                await caller.call("keyed")
            assert (type(refused.value), refused.value.upstream_status) == (ProviderError, 422)
        assert caller.sent == 2
        assert all(b"Idempotency-Key: key-1\r\n" in request for request in caller.server.requests)


async def test_request_that_never_left_is_made_again_whatever_it_does() -> None:
    class Refusing(Noting):
        async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
            self.timeouts.append(0)
            if len(self.timeouts) == 1:
                raise ConnectFailed
            if len(self.timeouts) == 2:
                raise RequestTimeout(sent=False)
            answer: HttpResponse = await self.inner.send(request, provider_id=provider_id)
            return answer

    async with calling(OK, transport=Refusing) as caller:
        result = await caller.call("neither")
        assert (result.attempts, caller.sent) == (3, 1)


@pytest.mark.parametrize(
    ("method", "idempotent", "requests"),
    [
        ("POST", True, 3),
        ("PATCH", True, 3),
        ("PUT", False, 1),
        ("GET", False, 1),
        ("PATCH", None, 1),
        ("DELETE", None, 3),
    ],
)
async def test_record_says_whether_repeating_does_nothing_more(
    method: str, idempotent: bool | None, requests: int
) -> None:
    own = Operation("own", method, "/own", idempotent=idempotent)
    async with calling(hang_up, operations=(own,)) as caller:
        with pytest.raises(TransportError) as ended:
            await caller.runtime.execute(caller.connection_id, "own")
        assert (type(ended.value) is OutcomeUnknown) == (requests == 1)
        assert caller.sent == requests


@pytest.mark.parametrize(("safe", "requests"), [(True, 3), (False, 1), (None, 1)])
async def test_step_of_an_exchange_says_whether_it_is_safe(safe: bool | None, requests: int) -> None:
    async with calling(hang_up) as caller:
        core = caller.runtime._core
        call = started(core, await load(core, caller.connection_id), _operation(caller, "call.post"))
        with pytest.raises(TransportError):
            await send(core, call, HttpRequest("POST", caller.server.url("/call")), safe=safe)
        assert caller.sent == requests


@pytest.mark.parametrize(
    ("error", "requests"),
    [
        (RateLimited(retry_after=2), 3),
        (ProviderUnavailable(upstream_status=200), 1),
        (ProviderUnavailable(upstream_status=503, retry_after=2), 3),
        (ProviderError(upstream_status=200), 1),
    ],
)
async def test_failure_that_an_exchange_finds_is_repeated_as_others_of_its_class(error: Any, requests: int) -> None:
    async with calling(OK) as caller:
        core = caller.runtime._core
        call = started(core, await load(core, caller.connection_id), _operation(caller, "call.post"))
        with pytest.raises(type(error)) as ended:
            await send(core, call, HttpRequest("POST", caller.server.url("/call")), failure=lambda response: error)
        assert (caller.sent, ended.value.attempts) == (requests, requests)


class Source:
    """A body in pieces."""

    length = 6

    def __init__(self, *, once: bool) -> None:
        self.once = once
        self.opened = 0

    async def open(self) -> AsyncIterator[bytes]:
        self.opened += 1
        yield b"abc"
        yield b"def"


@pytest.mark.parametrize(("once", "requests"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("answer", [DOWN, hang_up])
async def test_body_that_cannot_be_opened_again_is_sent_once(answer: Any, once: bool, requests: int) -> None:
    async with calling(answer, OK) as caller:
        core = caller.runtime._core
        call = started(core, await load(core, caller.connection_id), _operation(caller, "call.put"))
        source = Source(once=once)
        request = HttpRequest("PUT", caller.server.url("/call"), (), source, 5.0)
        if once:
            with pytest.raises((ProviderUnavailable, TransportError)):
                await send(core, call, request)
        else:
            assert (await send(core, call, request)).status == 200
            assert caller.server.body(0) == caller.server.body(1) == b"abcdef"
        assert source.opened == caller.sent == requests


# --- 401 -----------------------------------------------------------------------------------------------------------


class Scripted:
    """Between runtime and sandbox: statuses in place of what the API answers; None lets it answer."""

    def __init__(self, inner: Any, *statuses: int | None) -> None:
        self.inner = inner
        self.statuses = list(statuses)
        self.tokens: list[str | None] = []

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        if not request.url.endswith("/userinfo"):
            answer: HttpResponse = await self.inner.send(request, provider_id=provider_id)
            return answer
        self.tokens.append(request.header("Authorization"))
        status = self.statuses.pop(0)
        return await self.inner.send(request, provider_id=provider_id) if status is None else HttpResponse(status)


async def test_refused_credential_between_failures_is_renewed_once_and_takes_no_attempt(app, runtime, counted):
    """P82."""
    connection = await app.connect(runtime)
    counted()
    scripted = runtime._core.transport = Scripted(runtime._core.transport, 503, 401, 503, None)
    result = await runtime.execute(connection.id, "me", retry=RetryPolicy(attempts=3))
    assert (result.status, result.attempts) == (200, 4)
    assert counted() == {"token": 1, "userinfo": 1}
    assert len(set(scripted.tokens[:2])) == len(set(scripted.tokens[2:])) == 1
    assert len(set(scripted.tokens)) == 2


async def test_credential_that_is_refused_again_within_a_call_is_not_renewed_again(app, runtime, counted):
    """P82."""
    connection = await app.connect(runtime)
    counted()
    runtime._core.transport = Scripted(runtime._core.transport, 401, 503, 401, None)
    with pytest.raises(ProviderUnauthorized) as ended:
        await runtime.execute(connection.id, "me")
    assert ended.value.attempts == 3
    assert counted() == {"token": 1}


async def test_renewal_that_fails_after_a_doubt_leaves_the_doubt(app, runtime):
    """P81: a keyed call loses its answer, and then its credential cannot be renewed."""

    class Losing(Scripted):
        async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
            answer: HttpResponse = await self.inner.send(request, provider_id=provider_id)
            if request.url.endswith("/items"):
                app.clock.advance(3601)
                raise TransportError("The answer was lost.")
            return answer

    connection = await app.connect(runtime)
    runtime._core.transport = Losing(runtime._core.transport)
    app.sandbox.faults.set("token", "500")
    with pytest.raises(OutcomeUnknown) as ended:
        await runtime.execute(
            connection.id, "items.create", {"name": "x"}, idempotency_key="k", retry=RetryPolicy(longest_delay=0.001)
        )
    assert str(ended.value.__cause__) == "The answer was lost."


# --- cancellation and bookkeeping ----------------------------------------------------------------------------------


class Ledger:
    """A plugin's budget that notes what it is told."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.log: list[Any] = []

    @hookimpl
    def gs_rate_limit_policy(self, provider_id: str) -> Any:
        return self

    def before(self, bucket: str) -> float:
        self.log.append("before")
        return 0.0

    def after(self, bucket: str, response: Any) -> None:
        self.log.append(response.status)
        if self.broken:
            raise RuntimeError("the ledger is full")


async def test_cancelled_call_ends_at_once_closes_its_connection_and_is_not_repeated() -> None:
    async with calling(hang, OK, breaker=BreakerPolicy(failures=1)) as caller:
        task = asyncio.create_task(caller.call("keyed"))
        await asyncio.wait_for(caller.server.arrived.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(caller.server.hung_up.wait(), 10)
        assert (caller.sent, caller.clock.slept) == (1, [])
        assert not caller.runtime._core.breakers.watched
        assert not caller.runtime._core.retry_debts
        assert (await caller.call()).attempts == 1


async def test_call_that_is_cancelled_while_it_waits_sends_nothing_more() -> None:
    async with calling(throttled("30"), OK) as caller:
        waiting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

        caller.clock.sleep = sleep
        task = asyncio.create_task(caller.call())
        await asyncio.wait_for(waiting.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert caller.sent == 1


@pytest.mark.parametrize("kind", ["safe", "neither"])
async def test_budget_that_cannot_be_settled_hides_no_result_and_repeats_nothing(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(broken=True)
    async with calling(OK, plugins={"ledger": ledger}) as caller:
        result = await caller.call(kind)
        assert (result.status, result.attempts, caller.sent) == (200, 1, 1)
        assert ledger.log == ["before", 200]
        assert "is lost" in caplog.text


async def test_every_attempt_is_reserved_for_and_settled() -> None:
    ledger = Ledger()
    async with calling(DOWN, OK, plugins={"ledger": ledger}) as caller:
        await caller.call()
        assert ledger.log == ["before", 503, "before", 200]


# --- storms --------------------------------------------------------------------------------------------------------


async def test_provider_that_always_fails_gets_few_repetitions() -> None:
    async with calling(http_answer(500), breaker=None) as caller:
        calls = 200
        ended = await asyncio.gather(*(caller.call() for _ in range(calls)), return_exceptions=True)
        assert all(isinstance(one, ProviderUnavailable) for one in ended)
        assert calls + 10 <= caller.sent <= 1.2 * calls + 10


async def test_first_attempts_earn_repetitions_back() -> None:
    policy = RetryPolicy(attempts=2, burst=1, share=0.5)
    async with calling(DOWN, OK, DOWN, DOWN, OK, OK, DOWN, OK) as caller:
        assert (await caller.call(retry=policy)).attempts == 2
        with pytest.raises(ProviderUnavailable) as spent:
            await caller.call(retry=policy)  # earns one half
        assert spent.value.attempts == 1
        with pytest.raises(ProviderUnavailable):
            await caller.call(retry=RetryPolicy(attempts=2, burst=1, share=0.25))
        assert [(await caller.call(retry=policy)).attempts for _ in range(2)] == [1, 1]
        assert (await caller.call(retry=policy)).attempts == 2


# --- where it is said ----------------------------------------------------------------------------------------------


async def test_call_before_operation_before_configuration_before_record() -> None:
    own = Operation("own", "GET", "/own", retry=RetryPolicy(attempts=4))
    settings = {"providers.raw.retry": {"attempts": 3}}

    async def attempts(caller: Caller, operation: str, **options: Any) -> int:
        with pytest.raises(ProviderUnavailable) as ended:
            await caller.runtime.execute(caller.connection_id, operation, **options)
        return ended.value.attempts

    async with calling(DOWN, operations=(own,), retry=RetryPolicy(attempts=2), breaker=None) as caller:
        assert await attempts(caller, "call.get") == 2
        assert await attempts(caller, "own") == 4
        assert await attempts(caller, "own", retry=ONCE) == 1
    async with calling(DOWN, retry=RetryPolicy(attempts=2), settings=settings) as caller:
        assert await attempts(caller, "call.get") == 3


async def test_breaker_of_the_configuration_counts_instead_of_the_records() -> None:
    async with calling(DOWN, settings={"providers.raw.breaker": {"failures": 1}}) as caller:
        with pytest.raises(ProviderUnavailable) as ended:
            await caller.call()
        assert ended.value.attempts == 1


async def test_provider_that_the_configuration_declares_has_all_of_it() -> None:
    api = {
        "base_url": "https://api.example",
        "retry": {"attempts": 7},
        "breaker": {"failures": 2},
        "throttled": [{"statuses": [200], "path": "error.code", "values": ["613"]}],
    }
    async with calling(OK, settings={"providers.acme": {"auth": {"kind": "pat"}, "api": api}}) as caller:
        made = caller.runtime._core.instances["acme"].spec.api
        assert made is not None
        assert (made.retry, made.breaker) == (RetryPolicy(attempts=7), BreakerPolicy(failures=2))
        assert made.throttled == (Throttled(statuses=(200,), path="error.code", values=("613",)),)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("providers.raw.retry", {"attempts": 0}),
        ("providers.raw.retry", {"tries": 3}),
        ("providers.raw.breaker", {"share": 2.0}),
        ("runtime.call_deadline", 0),
        ("runtime.default_timeout", -1),
    ],
)
async def test_policy_that_makes_no_sense_is_refused_at_the_start(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        async with calling(OK, settings={key: value}):
            pass
    assert key.removeprefix("runtime.") in str(refused.value)
