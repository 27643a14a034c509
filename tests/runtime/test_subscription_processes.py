"""Subscriptions of several real processes on both databases: killed at each step, and at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from typing import Any

import pytest
from attrs import evolve

from go_services_core import Runtime
from go_services_core.errors import Conflict
from go_services_core.resources import Subscription

from .conftest import App
from .refresh_workers import line
from .subscribing import CALLBACK, CREATES, KINDS, RENEW, live, names, token, told
from .subscription_workers import worker
from .test_refresh_kills import on_disk

pytestmark = pytest.mark.chaos
__all__ = ["on_disk"]

POINTS = ("before-intent", "after-intent", "after-request", "after-answer", "in-commit", "after-commit")
WORKERS = 3
SUBSCRIPTIONS = 12


def make_due(app: App) -> None:
    """Let the time come of everything that the keeper waits for."""
    app.rows("UPDATE service_subscriptions SET renew_at = created_at WHERE renew_at IS NOT NULL")


async def go(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    await process.stdin.drain()


async def killed(app: App, kind: str, action: str, subject: str, point: str, chaos: Any) -> None:
    """Have a process do ``action`` that is killed at ``point``."""
    endpoint = "subscriptions.renew" if (action, kind) == ("renew", "folder") else CREATES[kind]
    commit = "save_subscriptions" if (action, kind) == ("renew", "items") else "save_subscription"
    before = app.sandbox.requests[endpoint]
    where = point
    if point == "after-request":
        app.sandbox.faults.set(endpoint, "slow", seconds=30)
    elif point == "in-commit":
        where = f"{point} {commit} {chaos.random.uniform(0, 0.004):.5f}"
    elif point == "after-commit":
        where = f"{point} {commit}"
    async with worker(app, action, subject, where) as process:
        assert await line(process) == "ready"
        await go(process)
        if point == "after-request":
            async with asyncio.timeout(30):
                while app.sandbox.requests[endpoint] == before:
                    await asyncio.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
    app.sandbox.faults.clear()
    app.age(200)


async def settled(app: App, runtime: Runtime, resource: str) -> Subscription:
    """What stands in the end: exactly one subscription to the resource, whose token the provider sends."""
    for _ in range(4):
        make_due(app)
        await runtime.run_due(RENEW, 1000)
    rows = (await runtime.subscriptions(resource_id=resource)).items
    (left,) = [row for row in rows if row.status != "cancelled" and row.replaced_by is None]
    assert (left.status, left.attempts) == ("active", 0)
    (channel,) = [one for one in live(app) if one.id == left.channel_id]
    assert channel.token == await token(runtime, left)
    assert all(row.verification is None for row in rows if row.status == "cancelled")
    return left


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", POINTS)
async def test_subscribing_killed_at_any_step_leaves_nothing_unknown(
    on_disk: App, chaos: Any, point: str, kind: str
) -> None:
    """Whoever asks again gets one subscription; what the provider has is the row's, or ends by itself unheard."""
    app = on_disk
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for round in range(chaos.rounds(1, 20)):
            resource = f"{point}-{round}"
            await killed(app, kind, "subscribe", f"{connection.id} {kind} {resource}", point, chaos)
            rows = (await runtime.subscriptions(resource_id=resource)).items
            for channel in live(app):  # nothing is at the provider of which there is no row, or was none
                if channel.resource == resource and kind == "items":
                    assert channel.id in [row.channel_id for row in rows]
            made = await runtime.subscribe(connection.id, kind, resource, callback_url=CALLBACK)
            assert made.confirmed_at is not None
            assert (await settled(app, runtime, resource)).resource_id == resource
            created = [one for one in await told(runtime) if one.name == "subscription.created"]
            assert len([one for one in created if one.payload["resource_id"] == resource]) == 1, resource


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", POINTS)
async def test_renewal_killed_at_any_step_keeps_the_subscription(
    on_disk: App, chaos: Any, point: str, kind: str
) -> None:
    """P66, P90: there is no moment at which the provider has none, and another process goes on."""
    if (point, kind) in (("before-intent", "folder"), ("after-intent", "folder")):
        pytest.skip("a subscription whose end is moved has no intent: moving it twice is harmless")
    app = on_disk
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for round in range(chaos.rounds(1, 20)):
            resource = f"{point}-{round}"
            made = await runtime.subscribe(connection.id, kind, resource, callback_url=CALLBACK)
            make_due(app)
            app.rows(f"UPDATE service_subscriptions SET renew_at = NULL WHERE id <> '{made.id}'")
            await killed(app, kind, "renew", "", point, chaos)
            assert resource in [channel.resource for channel in live(app)]
            await settled(app, runtime, resource)
            assert "gap" not in names(await told(runtime))


@pytest.mark.parametrize("kind", KINDS)
async def test_workers_of_one_database_renew_each_subscription_once(on_disk: App, chaos: Any, kind: str) -> None:
    app = on_disk
    endpoint = "subscriptions.renew" if kind == "folder" else CREATES[kind]
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for number in range(SUBSCRIPTIONS):
            await runtime.subscribe(connection.id, kind, str(number), callback_url=CALLBACK)
        async with AsyncExitStack() as stack:
            processes = [await stack.enter_async_context(worker(app, "renew")) for _ in range(WORKERS)]
            assert [await line(process) for process in processes] == ["ready"] * WORKERS
            for round in range(chaos.rounds(2, 20)):
                app.rows("UPDATE service_subscriptions SET renew_at = created_at WHERE replaced_by IS NULL")
                before = app.sandbox.requests[endpoint]
                await asyncio.gather(*(go(process) for process in processes))
                done = [json.loads(await line(process)) for process in processes]
                assert app.sandbox.requests[endpoint] - before == SUBSCRIPTIONS, f"round {round}: {done}"
                assert sum(done) == SUBSCRIPTIONS, f"round {round}"


async def test_of_processes_that_subscribe_to_one_resource_one_asks_the_provider(on_disk: App, chaos: Any) -> None:
    app = on_disk
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for round in range(chaos.rounds(2, 20)):
            subject = f"{connection.id} items at-once-{round}"
            async with AsyncExitStack() as stack:
                processes = [await stack.enter_async_context(worker(app, "subscribe", subject)) for _ in range(WORKERS)]
                assert [await line(process) for process in processes] == ["ready"] * WORKERS
                before = app.sandbox.requests["channels.watch"]
                await asyncio.gather(*(go(process) for process in processes))
                answers = {json.loads(await line(process)) for process in processes}
                assert app.sandbox.requests["channels.watch"] - before == 1, f"round {round}"
            assert len(answers - {"Conflict"}) == 1, f"round {round}: {answers}"


async def test_channel_that_processes_of_two_tenants_claim_at_once_belongs_to_one(on_disk: App, chaos: Any) -> None:
    """A channel belongs to one connection: the store refuses the other one, also after it was cancelled."""
    app = on_disk
    async with app.open() as runtime, AsyncExitStack() as stack:
        connections = [await app.connect(runtime, who) for who in ("u1", "u2")]
        processes = [await stack.enter_async_context(worker(app, "claim", one.id)) for one in connections]
        assert [await line(process) for process in processes] == ["ready", "ready"]
        for round in range(chaos.rounds(10, 500)):
            await asyncio.gather(*(go(process) for process in processes))
            answers = [json.loads(await line(process)) for process in processes]
            assert answers.count("Conflict") == 1, f"round {round}: {answers}"
            holder = await runtime._core.store.resources.subscription_by_channel("sandbox", f"channel-{round}")
            assert holder is not None
            assert holder.id in answers
            await runtime.cancel_subscription(holder.id)
            (other,) = [one for one in connections if one.id != holder.connection_id]
            with pytest.raises(Conflict):
                await runtime._core.store.resources.save_subscription(
                    evolve(holder, id=f"late-{round}", connection_id=other.id, status="active"), expected_version=None
                )
