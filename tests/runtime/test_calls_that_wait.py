"""What changes while a call waits: its connection, its credential, the runtime, and the errors of whoever waits too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from go_services_core import Capability, HttpRequest, Operation, Scope, hookimpl
from go_services_core.call_specs import BreakerPolicy, RateBudget, RetryPolicy, Window
from go_services_core.calls import OperationRequest
from go_services_core.errors import (
    CircuitOpen,
    ConfigError,
    OutcomeUnknown,
    ReauthRequired,
    RequestTimeout,
    ServicesError,
    StoreUnavailable,
)
from go_services_core.model import Observation
from go_services_core.testing.rawserver import http_answer
from go_services_core.tracing import Trace

from .calling import OK, LeapingClock, calling, hang_up

BUSY = http_answer(503, b"", (("Retry-After", "5"),))


def every_error() -> list[ServicesError]:
    """One of each class."""
    found, waiting = [], [ServicesError]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        if one.__module__.startswith("go_services_core."):
            found.append(one(problems=["one"]) if issubclass(one, ConfigError) else one("Something failed."))
    return found


class MeanwhileClock(LeapingClock):
    """While somebody sleeps, something happens."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Any = None

    async def sleep(self, seconds: float) -> None:
        if self.meanwhile is not None:
            todo, self.meanwhile = self.meanwhile, None
            await todo()
        await super().sleep(seconds)


# --- connections ---------------------------------------------------------------------------------------------------


async def test_connection_that_was_ended_in_a_retry_wait_is_not_used_again() -> None:
    async with calling(BUSY, OK, clock=(clock := MeanwhileClock())) as caller:
        clock.meanwhile = lambda: caller.runtime.disconnect(caller.connection_id, reason="user asked")
        with pytest.raises(ReauthRequired):
            await caller.call()
        assert caller.sent == 1


async def test_credential_that_was_replaced_in_a_retry_wait_is_used_next() -> None:
    async with calling(BUSY, OK, clock=(clock := MeanwhileClock())) as caller:

        async def replace() -> None:
            await caller.runtime.establish("raw", scope=Scope("user", "u1"), fields={"token": "another-token-of-it"})

        clock.meanwhile = replace
        assert (await caller.call()).attempts == 2
        assert [b"another-token-of-it" in request for request in caller.server.requests] == [False, True]


async def test_connection_that_was_ended_while_a_call_waits_for_units_is_not_used() -> None:
    budget = RateBudget(windows=(Window(1, 60),))
    async with calling(OK, clock=(clock := MeanwhileClock()), budget=budget) as caller:
        await caller.call()
        clock.meanwhile = lambda: caller.runtime.disconnect(caller.connection_id, reason="user asked")
        with pytest.raises(ReauthRequired):
            await caller.call()
        assert caller.sent == 1


# --- circuit and budget --------------------------------------------------------------------------------------------

DOWN = http_answer(503)
ONCE = RetryPolicy(attempts=1)


async def test_probe_is_whoever_has_its_units_and_not_who_waits_for_them() -> None:
    budget = RateBudget(windows=(Window(1, 60),))
    breaker = BreakerPolicy(failures=1, pause=10)
    async with calling(DOWN, OK, clock=(clock := MeanwhileClock()), budget=budget, breaker=breaker) as caller:
        with pytest.raises(Exception, match="503"):
            await caller.call(retry=ONCE)
        clock.advance(10)
        seen = []

        async def look() -> None:
            (watched,) = caller.runtime._core.breakers.watched.values()
            seen.append(watched.probing)

        clock.meanwhile = look
        assert (await caller.call()).status == 200
        assert seen == [False]


async def test_host_that_is_left_alone_costs_no_unit_and_no_wait() -> None:
    budget = RateBudget(windows=(Window(2, 3600),))
    breaker = BreakerPolicy(failures=1, pause=10)
    async with calling(DOWN, OK, budget=budget, breaker=breaker) as caller:
        with pytest.raises(Exception, match="503"):
            await caller.call(retry=ONCE)
        for _ in range(3):
            with pytest.raises(CircuitOpen):
                await caller.call()
        caller.clock.advance(10)
        assert (await caller.call()).status == 200
        assert caller.clock.slept == []


async def test_unit_of_a_call_that_finds_the_circuit_open_after_its_wait_is_put_back() -> None:
    budget = RateBudget(windows=(Window(1, 60),))
    breaker = BreakerPolicy(failures=1, pause=1000)
    async with calling(OK, clock=(clock := MeanwhileClock()), budget=budget, breaker=breaker) as caller:
        await caller.call()

        async def fail() -> None:
            core = caller.runtime._core
            key = ("raw", f"http://127.0.0.1:{caller.server.port}")
            core.breakers.watch(key, breaker, clock.monotonic()).failed(clock.monotonic(), probe=False)

        clock.meanwhile = fail
        with pytest.raises(CircuitOpen):
            await caller.call()
        (bucket,) = caller.runtime._core.buckets.values()
        assert [held.units for held in bucket.windows] == [1.0]
        assert caller.sent == 1


async def test_cancelled_call_that_costs_more_than_the_window_puts_back_no_more_than_it_took() -> None:
    budget = RateBudget(windows=(Window(2, 60),))
    dear = Operation("dear", "GET", "/call", cost=50)
    async with calling(OK, budget=budget, operations=(dear,)) as caller:
        task = asyncio.create_task(caller.runtime.execute(caller.connection_id, "dear"))
        waiting: list[Any] = []
        while not any(waiter.ready.done() for waiter in waiting):
            await asyncio.sleep(0)
            waiting += [waiter for one in caller.runtime._core.buckets.values() for waiter in one._queue]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (bucket,) = caller.runtime._core.buckets.values()
        assert [held.units for held in bucket.windows] == [2.0]
        assert caller.sent == 0


# --- doubt ---------------------------------------------------------------------------------------------------------


async def test_store_that_fails_before_a_repetition_does_not_hide_that_the_first_attempt_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = RateBudget(windows=(Window(1, 60),))
    async with calling(hang_up, OK, budget=budget) as caller:

        async def fail(*args: Any, **options: Any) -> Any:
            raise StoreUnavailable("The database is away.")

        real = caller.runtime._core.store.budgets.lease

        async def once(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(caller.runtime._core.store.budgets, "lease", fail)
            return await real(*args, **options)

        monkeypatch.setattr(caller.runtime._core.store.budgets, "lease", once)
        with pytest.raises(OutcomeUnknown):
            await caller.call("keyed")
        assert caller.sent == 1


async def test_call_that_succeeded_does_not_wait_until_its_pause_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    used_up = http_answer(200, b"{}", (("X-App-Usage", '{"call_count":100}'),))
    async with calling(used_up, budget=RateBudget(windows=(Window(10, 3600),), learn=("meta",))) as caller:
        told = asyncio.Event()

        async def slow(*args: Any, **options: Any) -> None:
            await asyncio.sleep(0.4)
            told.set()

        monkeypatch.setattr(caller.runtime._core.store.budgets, "pause", slow)
        assert (await caller.call("neither", deadline=0.3)).status == 200
        assert not told.is_set()
        await asyncio.wait_for(told.wait(), 5)


async def test_refusal_that_says_nothing_of_the_key_leaves_open_what_the_first_attempt_did() -> None:
    async with calling(hang_up, http_answer(409)) as caller:
        with pytest.raises(OutcomeUnknown):
            await caller.call("keyed")
        assert caller.sent == 2


async def test_deadline_of_an_invocation_does_not_hide_that_its_request_is_open() -> None:
    class Deaf:
        """A transport that takes no notice of the time."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def send(self, request: HttpRequest, *, provider_id: str) -> Any:
            await asyncio.Event().wait()

    writes = Operation("write", "POST", "/call", capability="writes")
    async with calling(OK, transport=Deaf, operations=(writes,), capabilities=(Capability("writes"),)) as caller:
        for call in (
            caller.runtime.execute(caller.connection_id, "write", deadline=0.2),
            caller.runtime.invoke("writes", "raw", Scope("user", "u1"), deadline=0.2),
        ):
            with pytest.raises(OutcomeUnknown):
                await call


async def test_deadline_before_anything_was_sent_says_so() -> None:
    class Stuck(LeapingClock):
        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    budget = RateBudget(windows=(Window(1, 0.05),))
    async with calling(OK, clock=Stuck(), budget=budget) as caller:
        await caller.call()
        with pytest.raises(RequestTimeout) as caught:
            await caller.call("neither", deadline=0.2)
        assert (caught.value.sent, caller.sent) == (False, 1)


async def test_call_that_is_cancelled_while_its_key_is_stored_frees_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(OK, idempotency_header=None) as caller:
        once = caller.runtime._core.store.once
        real = once.begin

        async def slow(*args: Any, **options: Any) -> Any:
            begun = await real(*args, **options)
            await asyncio.sleep(0.2)
            return begun

        with monkeypatch.context() as patch:
            patch.setattr(once, "begin", slow)
            with pytest.raises(RequestTimeout):
                await caller.call("keyed", deadline=0.1)
        await asyncio.gather(*caller.runtime._core.tasks)
        assert not (await caller.call("keyed")).replayed
        assert caller.sent == 1


# --- plugins -------------------------------------------------------------------------------------------------------


async def test_classifiers_own_error_ends_one_call_of_a_batch_and_no_other() -> None:
    class Classifier:
        GS_CONTRACT = 1

        @hookimpl
        def gs_error_classifier(self, provider_id: str) -> Any:
            return lambda response: LookupError("made by the plugin") if response.status == 404 else None

    async with calling(OK, http_answer(404), OK, plugins={"classifier": Classifier()}) as caller:
        calls = [OperationRequest(connection_id=caller.connection_id, operation="call.get") for _ in range(3)]
        outcomes = [outcome async for outcome in caller.runtime.batch(calls, concurrency=1)]
        assert [outcome.ok for outcome in outcomes] == [True, False, True]
        with pytest.raises(LookupError, match="made by the plugin"):
            outcomes[1].unwrap()


async def test_tracer_whose_header_cannot_be_sent_does_not_hurt_a_call() -> None:
    class Tracer:
        def __call__(self, event: Observation) -> None:
            pass

        def trace(self, span: int) -> Trace:
            return Trace(trace_id="t", headers=(("baggage", "a\r\nX-Forged: 1"),))

    async with calling(OK) as caller:
        caller.runtime._core.observers.add("tracer", Tracer(), inline=True)
        assert (await caller.call()).status == 200
        assert b"forged" not in caller.server.requests[0].lower()


# --- errors of several calls ---------------------------------------------------------------------------------------


async def test_calls_that_fail_by_one_cause_have_each_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = RateBudget(windows=(Window(1, 60),), per="provider")
    async with calling(OK, budget=budget) as caller:
        other = await caller.runtime.establish("raw", scope=Scope("user", "u2"), fields={"token": "a-token-of-another"})

        async def fail(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(0.05)
            raise StoreUnavailable("The database is away.")

        monkeypatch.setattr(caller.runtime._core.store.budgets, "lease", fail)
        ended = await asyncio.gather(
            *(
                caller.runtime.execute(id, "call.post", {"name": "x"}, idempotency_key=key)
                for id, key in ((caller.connection_id, "mine"), (other.id, "theirs"))
            ),
            return_exceptions=True,
        )
        errors = [one for one in ended if isinstance(one, StoreUnavailable)]
        assert [error.metadata["idempotency_key"] for error in errors] == ["mine", "theirs"]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_can_be_told_to_another_call(error: ServicesError) -> None:
    twin = error.for_another()
    twin.metadata["key"] = "theirs"
    assert type(twin) is type(error)
    assert twin.as_dict() == {**error.as_dict(), "metadata": {"key": "theirs"}}
    assert not error.metadata
