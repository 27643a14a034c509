"""Keyed calls of real processes on both databases: killed at each step, and at once. One item, one result."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import pytest

from go_services_core.errors import OperationRunning
from go_services_core.refs import Ref

from .conftest import App
from .keyed_workers import worker
from .refresh_workers import line
from .test_keyed import create, expire, provider
from .test_refresh_kills import on_disk

pytestmark = pytest.mark.chaos
__all__ = ["on_disk"]

POINTS = ("before-begin", "after-begin", "after-request", "after-answer", "in-commit", "after-commit")
"""Where the process is killed; before the key is stored, between that and the request, and so on to the end."""


async def killed(app: App, connection_id: str, name: str, point: str, chaos: Any, *, honours: bool = True) -> None:
    """Make the call ``name``, under a key of that name, in a process that is killed at ``point``."""
    before = app.sandbox.requests["items.create"]
    if point == "after-request":
        app.sandbox.faults.set("items.create", "slow", seconds=30)
    delay = f" {chaos.random.uniform(0, 0.004):.5f}" if point == "in-commit" else ""
    async with worker(app, connection_id, name, name, f"{point}{delay}", honours=honours) as process:
        assert await line(process) == "ready"
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        if point == "after-request":
            async with asyncio.timeout(30):
                while app.sandbox.requests["items.create"] == before:
                    await asyncio.sleep(0.002)
                while name not in made(app):
                    await asyncio.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL


def made(app: App) -> list[str]:
    return [item["name"] for item in app.sandbox.items.page(1, 10_000)[120:]]


def kept(app: App, name: str) -> list[str]:
    return [status for key, status in app.rows("SELECT key, status FROM service_idempotency") if f'"{name}"]' in key]


@pytest.mark.parametrize("point", POINTS)
async def test_call_of_a_process_killed_at_any_step_is_made_once(on_disk: App, chaos: Any, point: str) -> None:
    """P80: whoever repeats it with its key goes on with that key; the provider does it once, and one result is kept."""
    app = on_disk
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for round in range(chaos.rounds(2, 20)):
            name = f"{point}-{round}"
            await killed(app, connection.id, name, point, chaos)
            if point in ("after-begin", "after-request", "after-answer"):
                before = app.sandbox.requests["items.create"]
                with pytest.raises(OperationRunning):
                    await create(runtime, connection, name, name, deadline=1)
                assert app.sandbox.requests["items.create"] == before, name
            expire(app)
            result = await create(runtime, connection, name, name)
            assert (result.status, result.data["name"]) == (201, name)
            again = await create(runtime, connection, name, name)
            assert (again.replayed, again.data) == (True, result.data), name
            assert made(app).count(name) == 1, name
            assert kept(app, name) == ["done"], name


@pytest.mark.parametrize("point", ["after-begin", "after-request", "after-answer"])
async def test_call_of_a_killed_process_is_reconciled_where_the_provider_knows_no_keys(
    on_disk: App,
    chaos: Any,
    point: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P81."""
    from . import test_keyed

    app = on_disk
    monkeypatch.setitem(sys.modules, "made_adapters", test_keyed)
    provider(app, idempotency_header=None)
    app.set(adapter=Ref("made_adapters:ByName"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        for round in range(chaos.rounds(2, 20)):
            name = f"{point}-{round}"
            await killed(app, connection.id, name, point, chaos, honours=False)
            expire(app)
            before = app.sandbox.requests["items.create"]
            results = [await create(runtime, connection, name, name) for _ in range(2)]
            assert [result.replayed for result in results] == [False, True], name
            assert results[0].data == results[1].data, name
            assert app.sandbox.requests["items.create"] - before == (point == "after-begin"), name
            assert made(app).count(name) == 1, name


async def test_of_processes_with_one_key_one_sends(on_disk: App, chaos: Any) -> None:
    app = on_disk
    async with app.open() as runtime:
        connection = await app.connect(runtime)
    for round in range(chaos.rounds(2, 20)):
        name = f"at-once-{round}"
        app.sandbox.faults.set("items.create", "slow", seconds=chaos.random.uniform(0, 0.1))
        before = app.sandbox.requests["items.create"]
        async with worker(app, connection.id, name, name) as one, worker(app, connection.id, name, name) as two:
            for process in (one, two):
                assert await line(process) == "ready"
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            answers = [json.loads(await line(process)) for process in (one, two)]
        assert app.sandbox.requests["items.create"] - before == 1, name
        assert sorted(replayed for _, replayed, _ in answers) == [False, True], name
        assert len({id for *_, id in answers}) == 1, name
        assert made(app).count(name) == 1, name
