"""Renewing with real processes on one database file: racing, and killed at the worst moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from .refresh_workers import line, worker


@pytest.mark.chaos
async def test_three_processes_with_one_expired_token_make_one_token_request(live, chaos):
    """P10, P13: a single-use token that two processes spend ends the whole family."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        async with (
            worker(live, connection.id) as one,
            worker(live, connection.id) as two,
            worker(live, connection.id) as three,
        ):
            processes = (one, two, three)
            assert [await line(process) for process in processes] == ["ready"] * 3
            rounds = chaos.rounds(6, 200)
            for round in range(rounds):
                before = live.sandbox.requests["token"]
                live.sandbox.expire_access_tokens()
                live.sandbox.faults.set("token", "slow", seconds=0.02)
                for process in processes:
                    process.stdin.write(b"go\n")
                for process in processes:
                    assert json.loads(await line(process)) == [200] * 4, f"round {round}"
                assert live.sandbox.requests["token"] - before == 1, f"round {round}"
        assert (await runtime.connection(connection.id)).status == "active"
        told = "SELECT count(*) FROM service_lifecycle_outbox WHERE event_name = 'credential.refreshed'"
        assert live.rows(told) == [(rounds,)]


@pytest.mark.chaos
async def test_late_holder_neither_overwrites_nor_releases_its_successor(live):
    """P12: the first holder is stopped until its lease is over, and goes on when another has renewed."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.rotation = "none"
        async with worker(live, connection.id) as process:
            assert await line(process) == "ready"
            live.sandbox.expire_access_tokens()
            live.sandbox.faults.set("token", "slow", seconds=0.3)
            process.stdin.write(b"go\n")
            while live.sandbox.requests["token"] < 2:
                await asyncio.sleep(0.005)
            os.kill(process.pid, signal.SIGSTOP)
            live.age(100)
            assert (await runtime.execute(connection.id, "me")).status == 200
            _, winner = await live.stored(runtime, connection.id)
            await asyncio.sleep(0.35)
            os.kill(process.pid, signal.SIGCONT)
            assert json.loads(await line(process)) == [200] * 4
        _, after = await live.stored(runtime, connection.id)
        assert (after.id, after.version) == (winner.id, 2)
        assert (await live.events(runtime)).count("credential.refreshed") == 1
