"""``refresh.ahead`` in several real processes on one database: no connection is renewed twice."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from .conftest import App
from .refresh_workers import line, worker
from .test_refresh_kills import on_disk  # noqa: F401  fixtures: an application on each database

pytestmark = pytest.mark.chaos
WORKERS = 3
CONNECTIONS = 40


async def test_workers_of_one_database_renew_each_connection_once(on_disk: App, chaos: Any) -> None:  # noqa: F811
    """P10: single-use tokens; one that is spent twice would end its whole family."""
    app = on_disk
    async with app.open() as runtime:
        made = [(await app.connect(runtime, f"u{number}")).id for number in range(CONNECTIONS)]
        async with AsyncExitStack() as stack:
            processes = [await stack.enter_async_context(worker(app, made[0], "ahead")) for _ in range(WORKERS)]
            assert [await line(process) for process in processes] == ["ready"] * WORKERS
            for round in range(chaos.rounds(2, 20)):
                app.rows(
                    """UPDATE service_credentials SET created_at = '2026-01-01 00:00:00.000000',
                    expires_at = '2026-01-01 01:00:00.000000' WHERE status = 'active'"""
                )
                before = app.sandbox.requests["token"]
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write(b"go\n")
                done = [json.loads(await line(process)) for process in processes]
                assert app.sandbox.requests["token"] - before == CONNECTIONS, f"round {round}"
                assert sum(done) >= CONNECTIONS, f"round {round}"
                versions = app.rows("SELECT DISTINCT version FROM service_credentials WHERE status = 'active'")
                assert versions == [(round + 2,)]
        assert {(await runtime.connection(id)).status for id in made} == {"active"}
