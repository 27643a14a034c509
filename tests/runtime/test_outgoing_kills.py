"""Processes that are killed while they send, on both databases: at least once to the receiver, with the same id."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from .conftest import App
from .outgoing_workers import worker
from .receivers import Receiver, receiver
from .refresh_workers import line
from .test_outgoing_webhooks import emit, event, messages, opened
from .test_refresh_kills import on_disk

pytestmark = pytest.mark.chaos
__all__ = ["on_disk"]

POINTS = {
    "before-fan-out": (1, 1),
    "after-fan-out": (1, 1),
    "before-post": (1, 1),
    "after-post": (2, 2),
    "after-settle": (1, 1),
}
"""Where the process is killed → how often the receiver gets the message at least and at most."""


def expire(app: App) -> None:
    """End the leases of whoever is dead."""
    past = "'2000-01-01 00:00:00.000000'"
    app.rows(f"UPDATE service_sync_jobs SET next_attempt_at = {past} WHERE status = 'running'")
    app.rows(f"UPDATE service_event_deliveries SET next_attempt_at = {past} WHERE status = 'processing'")
    app.rows(f"UPDATE service_notification_dispatches SET expires_at = {past} WHERE status = 'running'")


async def killed(app: App, customer: Receiver, point: str) -> None:
    async with worker(app, customer.host, customer.url, point) as process:
        assert await line(process) == "ready"
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL


@pytest.mark.parametrize("point", POINTS)
async def test_message_of_a_process_killed_at_any_step_is_sent_with_the_same_id(
    on_disk: App, chaos: Any, point: str
) -> None:
    """P72: a hard crash between event and POST loses nothing; one between POST and settlement sends again."""
    app, (least, most) = on_disk, POINTS[point]
    async with receiver() as customer, opened(app, customer) as runtime:
        await runtime.add_endpoint(customer.url)
        for round in range(chaos.rounds(1, 20)):
            customer.got.clear()
            told = event(app)
            await emit(runtime, told)
            await killed(app, customer, point)
            expire(app)
            await runtime.drain()
            assert least <= len(customer.got) <= most, round
            assert set(customer.ids()) == {told.id}, round
            assert len({one.body for one in customer.got}) == 1, round
        assert {status for _, status, _ in await messages(runtime)} == {"succeeded"}


@pytest.mark.parametrize("point", ["before-send", "before-record"])
async def test_notification_of_a_killed_process_is_sent_with_the_same_key(on_disk: App, chaos: Any, point: str) -> None:
    """A kill between sending and recording tells at least once; what the sender is given to tell it by is the same."""
    app = on_disk
    async with receiver() as customer, opened(app, customer) as runtime:
        for round in range(chaos.rounds(1, 10)):
            customer.got.clear()
            if round == 0:
                async with worker(app, customer.host, customer.url) as process:
                    assert await line(process) == "ready"  # the handler is known from now on
            told = event(app, "connection.told")
            await emit(runtime, told)
            await killed(app, customer, point)
            expire(app)
            async with worker(app, customer.host, customer.url) as process:
                assert await line(process) == "ready"
                assert process.stdin is not None
                process.stdin.write(b"go\n")
                assert await line(process) == "done"
            counts = Counter(customer.ids())
            assert len(counts) == 2, round
            assert all(1 <= count <= 2 for count in counts.values()), round
            entries = (await runtime.notifications(event_id=told.id)).items
            assert {entry.dispatch.key for entry in entries} == set(counts), round
            assert {entry.status for entry in entries} == {"sent"}, round
            assert any(entry.attempts == 2 for entry in entries), round


async def test_storm_of_kills_loses_no_message(on_disk: App, chaos: Any) -> None:
    """Several workers, each killed again and again: every event arrives, none is dead, none has two ids."""
    app, number = on_disk, chaos.rounds(40, 2000)
    async with receiver() as customer, opened(app, customer) as runtime:
        await runtime.add_endpoint(customer.url)
        told = [event(app) for _ in range(number)]
        for first in range(0, number, 100):
            await emit(runtime, *told[first : first + 100])
        async with asyncio.timeout(60 + number):
            while set(customer.ids()) != {one.id for one in told}:
                async with AsyncExitStack() as stack:
                    workers = [
                        await stack.enter_async_context(worker(app, customer.host, customer.url, "loop"))
                        for _ in range(2)
                    ]
                    for process in workers:
                        assert await line(process) == "ready"
                        assert process.stdin is not None
                        process.stdin.write(b"go\n")
                    await asyncio.sleep(chaos.random.uniform(0.05, 0.5))
                    for process in workers:
                        process.send_signal(signal.SIGKILL)
                        await process.wait()
        expire(app)
        await runtime.drain()
        found = [status for _, status, _ in await messages(runtime)]
        assert set(found) == {"succeeded"}
        jobs = app.rows("SELECT count(*) FROM service_sync_jobs WHERE kind = 'endpoints.send'")
        assert jobs == [(number,)]
