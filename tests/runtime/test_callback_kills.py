"""Killed at each step of a callback, on both databases: everything or nothing, and a new consent works."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from go_services_core.errors import ServicesError

from .callback_workers import callback_worker, tell, with_identity
from .conftest import App
from .test_refresh_kills import on_disk  # noqa: F401  fixtures

pytestmark = pytest.mark.chaos

POINTS = {
    "before-consume": {"active"},
    "after-consume": {"StateUsed"},
    "after-request": {"StateUsed"},
    "after-answer": {"StateUsed"},
    "in-commit": {"StateUsed"},
    "after-commit": {"StateUsed"},
}
"""Where the process is killed, and what a repetition of the callback brings."""
COMMITTED = {"before-consume": {0}, "in-commit": {0, 1}, "after-commit": {1}}
"""How many credentials the killed process has left; none at the other points."""


@pytest.mark.parametrize("point", POINTS)
async def test_process_killed_at_any_step_of_a_callback_leaves_everything_or_nothing(
    on_disk: App,  # noqa: F811
    chaos: Any,
    point: str,
) -> None:
    """P04, P07: no half connection, a good one goes on, the callback works no second time, a new consent does."""
    app = on_disk
    async with app.open() as runtime:
        for round in range(chaos.rounds(2, 20)):
            who, named = f"u{round}", f"round {round}"
            good = await app.connect(runtime, who) if round % 2 else None  # a first consent, and one that is repeated
            before = 0 if good is None else 1
            start, params = await app.begin(runtime, who)
            sent = app.sandbox.requests["token"]
            if point == "after-request":
                app.sandbox.faults.set("token", "slow", seconds=0.1)
            delay = f" {chaos.random.uniform(0, 0.004):.5f}" if point == "in-commit" else ""
            async with callback_worker(with_identity(app), f"{point}{delay}") as process:
                tell(process, "complete", params, start.binding.reveal())
                if point == "after-request":
                    while app.sandbox.requests["token"] == sent:
                        await asyncio.sleep(0.002)
                    await asyncio.sleep(chaos.random.uniform(0, 0.1))
                    os.kill(process.pid, signal.SIGKILL)
                assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL

            left = _whole(app, who, named) - before
            assert left in COMMITTED.get(point, {0}), named
            if good is not None:
                runtime._core.forget(good.id)
                assert (await runtime.execute(good.id, "me")).status == 200, named
            try:
                outcome: str = (await runtime.complete(params, binding=start.binding)).status
            except ServicesError as error:
                outcome = type(error).__name__
            assert outcome in POINTS[point], named
            made = await app.connect(runtime, who)
            assert good is None or made.id == good.id, named
            assert (await runtime.execute(made.id, "me")).status == 200, named
            _whole(app, who, named)


def _whole(app: App, who: str, named: str) -> int:
    """How many credentials the scope's one connection has got; each came with its event, and the first with grants."""
    of_scope = f"WHERE scope_id = '{who}'"
    ids = app.rows(f"SELECT id FROM service_connections {of_scope}")
    events = app.rows(f"SELECT connection_id, event_name FROM service_lifecycle_outbox {of_scope} ORDER BY event_name")
    if not ids:
        assert events == [], named
        return 0
    ((id,),) = ids
    versions = app.rows(
        f"SELECT version, status FROM service_credentials WHERE connection_id = '{id}' ORDER BY version"
    )
    count = len(versions)
    expected = [(number, "active" if number == count else "revoked") for number in range(1, count + 1)]
    told = [(id, "connection.established")] * count + [(id, "grant.expanded")]  # only the first brought grants
    assert (versions, events) == (expected, told), named
    assert app.rows(f"SELECT count(*) FROM service_grant_snapshots WHERE connection_id = '{id}'") != [(0,)], named
    return count
