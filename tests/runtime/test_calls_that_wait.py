"""What changes while a call waits: its connection, its credential, the runtime, and the errors of whoever waits too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from go_services_core import Operation, Scope
from go_services_core.call_specs import BreakerPolicy, RateBudget, RetryPolicy, Window
from go_services_core.errors import (
    CircuitOpen,
    ConfigError,
    OutcomeUnknown,
    ReauthRequired,
    ServicesError,
    StoreUnavailable,
)
from go_services_core.testing.rawserver import http_answer

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
