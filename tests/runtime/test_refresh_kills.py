"""Killed at each step of a renewal, on both databases: a typed outcome, and no loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

import go_services_store_postgres.plugin as postgres
from go_services_core.clock import SystemClock
from go_services_core.errors import ReauthRequired, RefreshUnknown
from go_services_core.testing.postgres import PostgresServer
from go_services_core.testing.sandbox import Sandbox

from .conftest import App
from .refresh_workers import line, worker

pytestmark = pytest.mark.chaos
_numbers = count()

POINTS = {
    "before-open": ["used"],
    "after-open": ["used"],
    "after-request": ["used", "ReauthRequired"],  # as the provider did or did not get to the end of it
    "after-answer": ["ReauthRequired"],
    "in-commit": ["used", "ReauthRequired"],
    "after-commit": ["used"],
}
"""Where the process is killed, and what may become of the connection: the token is used again, or consent is asked."""


class PostgresApp(App):
    """An application on a PostgreSQL database of its own."""

    def __init__(self, sandbox: Sandbox, clock: Any, folder: Path, url: str) -> None:
        super().__init__(sandbox, clock, folder, None)
        self.plugins["postgres"] = postgres
        self.url = self.settings["store.url"] = url

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def age(self, seconds: float) -> None:
        for table, column in (
            ("service_leases", "expires_at"),
            ("service_refresh_intents", "sent_at"),
            ("service_refresh_intents", "settled_at"),
            ("service_refresh_intents", "retry_at"),
        ):
            self.rows(f"UPDATE {table} SET {column} = {column} - make_interval(secs => {seconds})")


@pytest.fixture(params=["sqlite", "postgres"])
async def on_disk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[App]:
    """An application and a sandbox in real time, on each database in turn."""
    clock = SystemClock()
    async with Sandbox(clock=clock) as running:
        if request.param == "sqlite":
            yield App(running, clock, tmp_path, None)
            return
        server: PostgresServer = request.getfixturevalue("database_server")
        template: str = request.getfixturevalue("postgres_template")
        name = f"go_services_kills_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(server.base, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield PostgresApp(running, clock, tmp_path, server.url(name))
        with psycopg.connect(server.base, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.mark.parametrize("point", POINTS)
async def test_process_killed_at_any_step_leaves_a_typed_outcome_and_no_loop(
    on_disk: App, chaos: Any, point: str
) -> None:
    """P11: what may be recovered is; what is lost is known to be; nobody asks the provider again and again."""
    app = on_disk
    async with app.open() as runtime:
        for round in range(chaos.rounds(1, 20)):
            connection = await app.connect(runtime, f"u{round}")
            before = app.sandbox.requests["token"]
            if point == "after-request":
                app.sandbox.faults.set("token", "slow", seconds=0.1)
            delay = f" {chaos.random.uniform(0, 0.004):.5f}" if point == "in-commit" else ""
            async with worker(app, connection.id, f"{point}{delay}") as process:
                assert await line(process) == "armed"
                if point == "after-request":
                    while app.sandbox.requests["token"] == before:
                        await asyncio.sleep(0.002)
                    await asyncio.sleep(chaos.random.uniform(0, 0.1))
                    os.kill(process.pid, signal.SIGKILL)
                assert await process.wait() == -signal.SIGKILL
            await _outcome(app, runtime, connection.id, before, f"round {round}", POINTS[point])


async def _outcome(app: App, runtime: Any, connection_id: str, before: int, named: str, allowed: list[str]) -> None:
    # The old access token is valid still: nobody has to wait for the dead.
    assert (await runtime.execute(connection_id, "me")).status == 200, named
    sent = app.sandbox.requests["token"] - before
    assert sent <= 1, named
    app.age(100)
    app.sandbox.expire_access_tokens()
    runtime._core.forget(connection_id)
    outcomes: list[str] = []
    for _ in range(3):
        try:
            await runtime.execute(connection_id, "me")
        except (ReauthRequired, RefreshUnknown) as ended:
            outcomes.append(type(ended).__name__)
        else:
            outcomes.append("used")
    assert len(set(outcomes)) == 1, named
    assert outcomes[0] in allowed, named
    assert app.sandbox.requests["token"] - before - sent == 1, named  # the one attempt to recover
    found = await runtime.connection(connection_id)
    assert (found.status, found.refresh_state) == ({"used": "active"}.get(outcomes[0], "pending_reauth"), "ok"), named
    unsettled = app.rows("SELECT count(*) FROM service_refresh_intents WHERE settled_at IS NULL")
    assert unsettled == [(0,)], named
    told = app.rows(
        f"""SELECT count(*) FROM service_lifecycle_outbox
        WHERE connection_id = '{connection_id}' AND event_name = 'connection.pending_reauth'"""
    )
    assert told == [(outcomes[0] != "used",)], named
