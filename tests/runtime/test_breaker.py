"""The circuit breaker of a host, by itself and around calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from go_services_core.call_specs import BreakerPolicy, RetryPolicy
from go_services_core.errors import CircuitOpen, ProviderUnavailable, RequestTimeout, ServicesError
from go_services_core.runtime.breaker import Breaker, Breakers, origin_of
from go_services_core.testing.rawserver import http_answer

from .calling import OK, LeapingClock, calling, hang

ONCE = RetryPolicy(attempts=1)
DOWN = http_answer(500)


def test_failures_in_a_row_open_it_and_a_success_between_them_begins_again() -> None:
    breaker = Breaker(BreakerPolicy(failures=3))
    assert [breaker.failed(0, probe=False) for _ in range(2)] == [None, None]
    assert breaker.succeeded(0, probe=False) is None
    assert [breaker.failed(0, probe=False) for _ in range(3)] == [None, None, "open"]


def test_share_of_failures_in_a_window_opens_it_and_older_ones_are_forgotten() -> None:
    policy = BreakerPolicy(failures=100, share=0.5, least=10, window=60)

    def after(now: float) -> str | None:
        breaker = Breaker(policy)
        for _ in range(4):
            breaker.failed(0, probe=False)
            breaker.succeeded(0, probe=False)
        breaker.succeeded(now, probe=False)
        return breaker.failed(now, probe=False)

    assert after(59) == "open"
    assert after(60) is None


def test_open_circuit_lets_one_probe_through_after_the_pause_and_its_end_decides() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, pause=30))
    assert breaker.failed(0, probe=False) == "open"
    assert breaker.admit(10) == (20, False)
    assert breaker.admit(30) == (None, True)
    wait, probe = breaker.admit(31)
    assert (wait, probe) == (1.0, False)
    assert breaker.failed(32, probe=True) is None
    assert breaker.admit(33) == (29, False)
    assert breaker.admit(62) == (None, True)
    assert breaker.succeeded(63, probe=True) == "closed"
    assert breaker.admit(63) == (None, False)


def test_what_was_sent_before_it_opened_neither_closes_it_nor_prolongs_the_pause() -> None:
    breaker = Breaker(BreakerPolicy(failures=1, pause=30))
    breaker.failed(0, probe=False)
    assert breaker.succeeded(1, probe=False) is None
    assert breaker.failed(2, probe=False) is None
    assert breaker.admit(3) == (27, False)


def test_number_of_watched_hosts_is_bounded() -> None:
    breakers = Breakers()
    for number in range(2000):
        breakers.watch(("raw", f"https://{number}.example"), BreakerPolicy(), 0.0)
    assert len(breakers.watched) == 1024
    assert ("raw", "https://1999.example") in breakers.watched


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example/a/b?c=https://x/", "https://api.example"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("https://api.example?a=/", "https://api.example"),
        ("http://[::1]:8080/x#y", "http://[::1]:8080"),
    ],
)
def test_origin_of_a_url(url: str, origin: str) -> None:
    assert origin_of(url) == origin


# --- around calls --------------------------------------------------------------------------------------------------


async def test_host_that_fails_is_left_alone_and_told_to_observers_until_one_request_finds_it_well() -> None:
    policy = BreakerPolicy(failures=4, pause=30)
    async with calling(DOWN, DOWN, DOWN, DOWN, DOWN, OK, breaker=policy) as caller:
        for _ in range(4):
            with pytest.raises(ProviderUnavailable):
                await caller.call(retry=ONCE)
        for kind in ("safe", "neither", "keyed"):
            with pytest.raises(CircuitOpen) as refused:
                await caller.call(kind)
            assert refused.value.retry_after == 30
            assert (refused.value.plugin, refused.value.sent, refused.value.retryable) == ("raw", False, True)
        assert caller.sent == 4
        caller.clock.advance(30)
        with pytest.raises(ProviderUnavailable):
            await caller.call()  # the probe is not made again
        with pytest.raises(CircuitOpen):
            await caller.call()
        assert caller.sent == 5
        caller.clock.advance(30)
        assert [(await caller.call()).status for _ in range(3)] == [200] * 3
        changes = [told for told in caller.told if told.name == "breaker"]
        assert [(told.detail["state"], told.ok, told.error_code) for told in changes] == [
            ("open", False, "SERVICE_CIRCUIT_OPEN"),
            ("closed", True, None),
        ]
        assert {told.detail["origin"] for told in changes} == {caller.server.url("")}
        assert {told.provider_id for told in changes} == {"raw"}


async def test_attempts_end_when_the_circuit_opens_between_them() -> None:
    async with calling(DOWN, breaker=BreakerPolicy(failures=2)) as caller:
        with pytest.raises(ProviderUnavailable) as failed:
            await caller.call(retry=RetryPolicy(attempts=5))
        assert failed.value.attempts == caller.sent == 2


async def test_of_fifty_tasks_one_tries_the_host_that_failed() -> None:
    go = asyncio.Event()

    async def slowly(request: bytes, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(OK)

    async with calling(DOWN, slowly, OK, breaker=BreakerPolicy(failures=1)) as caller:
        with pytest.raises(ProviderUnavailable):
            await caller.call(retry=ONCE)
        caller.clock.advance(30)
        tasks = [asyncio.create_task(caller.call()) for _ in range(50)]
        async with asyncio.timeout(10):
            while sum(task.done() for task in tasks) < 49:
                await asyncio.sleep(0.001)
        go.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert caller.sent == 2
        assert sum(isinstance(one, CircuitOpen) for one in ended) == 49
        assert (await caller.call()).status == 200


@pytest.mark.parametrize("answer", [http_answer(404), http_answer(429), http_answer(401)])
async def test_answer_that_refuses_shows_that_the_host_is_well(answer: bytes) -> None:
    async with calling(DOWN, answer, OK, breaker=BreakerPolicy(failures=1)) as caller:
        with pytest.raises(ProviderUnavailable):
            await caller.call(retry=ONCE)
        caller.clock.advance(30)
        with pytest.raises(ServicesError) as refused:
            await caller.call(retry=ONCE)
        assert not isinstance(refused.value, CircuitOpen)
        assert (await caller.call()).status == 200


async def test_cancelled_probe_leaves_it_to_the_next_request() -> None:
    async with calling(DOWN, hang, OK, breaker=BreakerPolicy(failures=1)) as caller:
        with pytest.raises(ProviderUnavailable):
            await caller.call(retry=ONCE)
        caller.clock.advance(30)
        caller.server.arrived.clear()
        probe = asyncio.create_task(caller.call())
        await asyncio.wait_for(caller.server.arrived.wait(), 10)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert (await caller.call()).status == 200


async def test_time_that_the_caller_cut_short_does_not_count_against_the_host() -> None:
    async with calling(hang, OK, breaker=BreakerPolicy(failures=1), clock=LeapingClock()) as caller:
        with pytest.raises(RequestTimeout):
            await caller.call(retry=ONCE, deadline=0.1)
        assert (await caller.call()).status == 200


async def test_another_host_and_a_provider_without_a_breaker_are_not_affected() -> None:
    async with calling(DOWN, breaker=None) as caller:
        for _ in range(30):
            with pytest.raises(ProviderUnavailable):
                await caller.call(retry=ONCE)
        assert caller.sent == 30
        assert not caller.runtime._core.breakers.watched


async def test_host_that_recovered_is_forgotten_after_the_window() -> None:
    async with calling(DOWN, OK) as caller:
        watched: dict[Any, Any] = caller.runtime._core.breakers.watched
        await caller.call()
        assert len(watched) == 1
        caller.clock.advance(60)
        await caller.call()
        assert not watched
