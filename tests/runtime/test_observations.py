"""Observations that are told out of line: later, in order, bounded, and never to the caller's harm."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import UTC, datetime

from go_services_core.model import Observation
from go_services_core.runtime.observations import Observations

AT = datetime(2026, 1, 1, tzinfo=UTC)


def about(number: int) -> Observation:
    return Observation(name=str(number), at=AT)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_caller_goes_on_before_an_observer_is_told_and_order_is_kept() -> None:
    order: list[str] = []
    observations = Observations()
    observations.start(lambda seen: order.append(f"told {seen.name}"))
    for number in range(3):
        observations(about(number))
        order.append(f"called {number}")
    await until(lambda: len(order) == 6)
    assert order == ["called 0", "called 1", "called 2", "told 0", "told 1", "told 2"]
    await observations.aclose()


async def test_other_tasks_have_their_turn_between_two_observations() -> None:
    """An observer that takes its time holds the loop once for each observation, not for all that wait."""
    order: list[str] = []
    observations = Observations()

    def slow(seen: Observation) -> None:
        time.sleep(0.01)
        order.append(seen.name)

    async def other() -> None:
        while len(order) < 6:
            order.append("other")
            await asyncio.sleep(0)

    for number in range(3):
        observations(about(number))
    observations.start(slow)
    await asyncio.wait_for(other(), 10)
    await observations.aclose()
    assert [name for name in order if name != "other"] == ["0", "1", "2"]
    first, second, third = (order.index(str(number)) for number in range(3))
    assert second - first > 1
    assert third - second > 1


async def test_what_was_told_before_there_are_observers_reaches_them() -> None:
    told: list[str] = []
    observations = Observations()
    observations(about(1))
    await asyncio.sleep(0)
    observations.start(lambda seen: told.append(seen.name))
    await until(lambda: told == ["1"])
    await observations.aclose()


async def test_oldest_is_dropped_when_too_many_wait_and_the_drops_are_counted_and_logged(caplog) -> None:
    told: list[str] = []
    observations = Observations(limit=3)
    for number in range(10):
        observations(about(number))
    assert observations.dropped == 7
    observations.start(lambda seen: told.append(seen.name))
    await until(lambda: len(told) == 3)
    assert told == ["7", "8", "9"]
    with caplog.at_level(logging.WARNING, "go_services"):
        await observations.aclose()
        await observations.aclose()
    assert [record.message for record in caplog.records] == [
        "7 observations were dropped: they came faster than observers took them"
    ]


async def test_queue_of_one_still_wakes_the_task() -> None:
    told: list[str] = []
    observations = Observations(limit=1)
    observations.start(lambda seen: told.append(seen.name))
    for round in range(3):
        observations(about(round))
        observations(about(round + 10))
        await until(lambda: len(told) == round + 1)  # noqa: B023
    assert told == ["10", "11", "12"]
    await observations.aclose()


async def test_closing_tells_what_still_waits_and_later_ones_are_only_counted() -> None:
    told: list[str] = []
    observations = Observations()
    observations.start(lambda seen: told.append(seen.name))
    for number in range(5):
        observations(about(number))
    await observations.aclose()
    assert told == ["0", "1", "2", "3", "4"]
    observations(about(5))
    await observations.aclose()
    assert (len(told), observations.dropped) == (5, 1)


async def test_closing_without_a_start_forgets_quietly() -> None:
    observations = Observations()
    observations(about(1))
    await observations.aclose()


async def test_other_threads_may_call_at_the_same_time_and_observers_run_in_the_loop() -> None:
    told: list[tuple[str, int]] = []
    observations = Observations(limit=10_000)
    observations.start(lambda seen: told.append((seen.name, threading.get_ident())))

    def tell(first: int) -> None:
        for number in range(first, first + 200):
            observations(about(number))

    await asyncio.gather(*(asyncio.to_thread(tell, first) for first in range(0, 1000, 200)))
    await until(lambda: len(told) == 1000)
    assert {int(name) for name, _ in told} == set(range(1000))
    assert {thread for _, thread in told} == {threading.get_ident()}
    for first in range(0, 1000, 200):
        mine = [int(name) for name, _ in told if first <= int(name) < first + 200]
        assert mine == sorted(mine)
    await observations.aclose()


async def test_call_from_another_thread_wakes_a_loop_that_has_nothing_to_do() -> None:
    order: list[str] = []
    seen = asyncio.Event()
    observations = Observations()

    def tell(observation: Observation) -> None:
        order.append(observation.name)
        seen.set()

    observations.start(tell)
    await asyncio.sleep(0)
    caller = threading.Timer(0.05, lambda: observations(about(1)))
    otherwise = asyncio.get_running_loop().call_later(10, order.append, "woke by itself")
    caller.start()
    await seen.wait()
    otherwise.cancel()
    assert order == ["1"]
    caller.join()
    await observations.aclose()


def test_call_after_the_loop_was_closed_harms_nobody() -> None:
    async def made() -> Observations:
        return Observations()

    observations = asyncio.run(made())
    observations(about(1))
    observations(about(2))
