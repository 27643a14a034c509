"""Whose turn it is among calls that wait, and how large the next block is."""

from __future__ import annotations

import asyncio
import math

import pytest

from go_services_core.model import Scope
from go_services_core.resources import BudgetBlock, BudgetKey
from go_services_core.runtime.budget_queue import Queue, Waiter
from go_services_core.runtime.budget_window import Held, is_ample

A, B, C = (Scope("org", name) for name in "abc")
KEY = BudgetKey("kit", A, "default/60")


def waiter(scope: Scope, *, background: bool = False) -> Waiter:
    return Waiter(scope, 1.0, background, math.inf, asyncio.get_running_loop().create_future())


async def test_scopes_take_turns_whoever_has_more_calls() -> None:
    queue = Queue()
    for scope in (A, A, A, A, B, B, C):
        queue.add(waiter(scope))
    order = []
    while queue:
        first = queue.next()[0]
        order.append(first.scope)
        queue.served(first)
    assert order == [A, B, C, A, B, A, A]


async def test_background_calls_come_after_all_others() -> None:
    queue = Queue()
    behind, ahead = waiter(A, background=True), waiter(B)
    assert queue.add(behind)
    assert queue.add(ahead)
    assert queue.next() == [ahead]
    queue.served(ahead)
    assert queue.next() == [behind]
    queue.remove(behind)
    queue.remove(behind)
    assert not queue


async def test_only_the_first_of_a_lane_changes_whose_turn_it_is() -> None:
    queue = Queue()
    one, two = waiter(A), waiter(A)
    assert (queue.add(one), queue.add(two), queue.add(waiter(B))) == (True, False, True)
    assert list(queue)[:2] == [one, two]


def lease(held: Held, now: float) -> float:
    ask = held.ask(1.0, background=False, now=now)
    units = max(ask.block, ask.units)
    held.take_in(BudgetBlock(key=KEY, units=units, period=1, remaining=500.0, ends_in=60.0), now)
    return units


def test_block_grows_with_use_up_to_a_twentieth_and_shrinks_without() -> None:
    held = Held(KEY, 1000.0, 60.0)
    assert [lease(held, now) for now in (0.0, 1.0, 2.0, 3.0, 4.0, 100.0, 200.0, 300.0)] == [
        10, 20, 40, 50, 50, 25, 12.5, 10
    ]  # fmt: skip


def test_background_calls_leave_a_fifth() -> None:
    held = Held(KEY, 50.0, 60.0)
    assert held.ask(1.0, background=True, now=0.0).reserve == 10
    assert held.ask(1.0, background=False, now=0.0).reserve == 0


def test_units_end_with_their_window_and_are_given_back_before() -> None:
    held = Held(KEY, 1000.0, 60.0)
    lease(held, 0.0)
    held.units -= 4
    unused = held.unused(10.0)
    assert unused is not None
    assert (unused.units, unused.period) == (6, 1)
    assert held.has(6, 59.9)
    assert not held.has(7, 59.9)
    assert not held.has(1, 60.0)
    assert held.unused(60.0) is None
    held.take_in(BudgetBlock(key=KEY, units=3.0, period=2, remaining=1.0, ends_in=60.0), 60.0)
    assert held.units == 3


def test_call_that_costs_more_than_a_window_takes_all_of_it() -> None:
    assert Held(KEY, 5.0, 60.0).ask(12.0, background=False, now=0.0).units == 5


def test_store_learns_only_what_is_news() -> None:
    held = Held(KEY, 1000.0, 60.0)
    lease(held, 0.0)
    assert not held.learn(505)  # five of the ten in hand were used
    assert not held.learn(480)  # others have blocks, too
    assert held.learn(300)
    assert (held.units, held.left) == (10, 290)
    assert held.learn(0)
    assert (held.units, held.left) == (0, 0)
    assert not held.learn(0)


@pytest.mark.parametrize(("remaining", "limit", "ample"), [(4999, 5000, True), (900, 5000, False), (90, 95, False)])
def test_what_is_ample(remaining: float, limit: float, ample: bool) -> None:
    assert is_ample(remaining, limit) is ample
