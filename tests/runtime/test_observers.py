"""Observers that raise, are slow or never return: no call, no other observer and no shutdown is hurt by them."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from go_services_core.model import Observation
from go_services_core.runtime import observers as told_by
from go_services_core.runtime.observers import LIMIT, Observers
from go_services_core.tracing import Trace

AT = datetime(2026, 1, 1, tzinfo=UTC)


def about(number: int) -> Observation:
    return Observation(name=str(number), at=AT)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_observer_is_told_in_order_from_a_thread_of_its_own() -> None:
    told: list[tuple[str, int]] = []
    observers = Observers()
    assert not observers
    observers.add("mine", lambda seen: told.append((seen.name, threading.get_ident())), inline=False)
    assert observers
    for number in range(100):
        observers.tell(about(number))
    await observers.aclose()
    assert [name for name, _ in told] == [str(number) for number in range(100)]
    threads = {thread for _, thread in told}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_observer_s_thread_is_woken_once_for_what_comes_together_and_sooner_for_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[int] = []
    observers = Observers()
    observers.add("mine", lambda seen: None, inline=False)
    (apart,) = observers._apart
    monkeypatch.setattr(apart._awake, "set", lambda: woken.append(len(apart._waiting)))
    for number in range(20):
        observers.tell(about(number))
        await asyncio.sleep(0)
    assert woken == []
    await until(lambda: woken)
    assert woken == [20]
    monkeypatch.setattr(told_by, "TOGETHER", 3600)
    for number in range(told_by.MANY):
        observers.tell(about(number))
    assert woken == [20, told_by.MANY + 1]
    monkeypatch.undo()
    await observers.aclose()


async def test_inline_observer_is_told_at_once_in_the_caller_s_thread() -> None:
    told: list[tuple[str, int]] = []
    observers = Observers()
    observers.add("mine", lambda seen: told.append((seen.name, threading.get_ident())), inline=True)
    observers.tell(about(1))
    assert told == [("1", threading.get_ident())]
    await observers.aclose()
    observers.tell(about(2))
    assert len(told) == 1


async def test_observer_that_never_returns_stops_neither_the_caller_nor_the_others_nor_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_by, "CLOSING", 0.05)
    stuck, told = threading.Event(), []
    observers = Observers()
    observers.add("stuck", lambda seen: stuck.wait() and None, inline=False)
    observers.add("good", lambda seen: told.append(seen.name), inline=False)
    for number in range(LIMIT + 10):
        observers.tell(about(number))
        if number % 100 == 0:
            await until(lambda: len(told) == number + 1)  # noqa: B023
    with caplog.at_level(logging.WARNING, "go_services"):
        async with asyncio.timeout(10):
            await observers.aclose()
    stuck.set()
    assert len(told) == LIMIT + 10
    assert f"the observer stuck did not end: {LIMIT} observations are lost" in caplog.messages
    assert "9 observations were dropped: the observer stuck is slow" in caplog.messages


@pytest.mark.parametrize("inline", [True, False])
async def test_observer_that_raises_each_time_is_logged_once_with_its_traceback_and_goes_on_being_told(
    inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def broken(seen: Observation) -> None:
        told.append(seen.name)
        raise RuntimeError("broken observer")

    observers = Observers()
    observers.add("mine", broken, inline=inline)
    for number in range(5):
        observers.tell(about(number))
    await observers.aclose()
    assert told == ["0", "1", "2", "3", "4"]
    (record,) = caplog.records
    assert record.getMessage() == "the observer mine failed"
    assert record.exc_info is not None


async def test_complaint_comes_again_after_a_while_and_counts_what_was_not_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(told_by.time, "monotonic", lambda: now)
    complain = told_by._Complaints("mine")
    for _ in range(4):
        complain("failed")
    now += told_by.QUIET
    complain("failed")
    assert caplog.messages == [
        "the observer mine failed",
        "the observer mine failed; 3 more like it were not logged",
    ]


async def test_inline_observer_that_is_slow_again_and_again_is_told_from_a_thread_from_then_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told_by, "SLOW", -1.0)  # everything takes longer than that
    threads: list[int] = []
    observers = Observers()
    observers.add("mine", lambda seen: threads.append(threading.get_ident()), inline=True)
    for number in range(told_by.PATIENCE):
        observers.tell(about(number))
    observers.tell(about(9))
    await observers.aclose()
    mine = threading.get_ident()
    assert [thread == mine for thread in threads] == [True] * told_by.PATIENCE + [False]
    assert "is told from a thread from now on" in caplog.text


async def test_traces_are_asked_of_inline_observers_that_have_them_and_one_that_raises_is_left_out() -> None:
    class Tracing:
        def __init__(self, trace: Trace | Exception | None) -> None:
            self.given = trace

        def __call__(self, event: Observation) -> None: ...

        def trace(self, span: int) -> Trace | None:
            if isinstance(self.given, Exception):
                raise self.given
            return self.given

    observers = Observers()
    mine = Trace(trace_id="t1", headers=(("traceparent", "x"),))
    observers.add("mine", Tracing(mine), inline=True)
    observers.add("none", Tracing(None), inline=True)
    observers.add("broken", Tracing(RuntimeError("no")), inline=True)
    observers.add("apart", Tracing(mine), inline=False)
    observers.add("plain", lambda seen: None, inline=True)
    assert observers.traces(1) == [mine]
    await observers.aclose()
