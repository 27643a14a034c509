"""Closing a runtime: a token that is on its way is waited for, another process is not."""

from __future__ import annotations

import asyncio

import pytest

from go_services_core.errors import RefreshLocked


class Sleeping:
    """The clock, and whether somebody has begun to wait by it."""

    def __init__(self, clock):
        self._clock, self.begun = clock, asyncio.Event()

    def __getattr__(self, name):
        return getattr(self._clock, name)

    async def sleep(self, seconds):
        self.begun.set()
        await self._clock.sleep(seconds)


async def flying(runtime, connection_id):
    """A renewal that somebody waits for, which has begun to sleep."""
    clock = runtime._core.clock = Sleeping(runtime._core.clock)
    caller = asyncio.create_task(runtime.refresh(connection_id))
    await asyncio.wait_for(clock.begun.wait(), 30)
    return caller


async def test_closing_does_not_wait_for_whoever_holds_the_lease(live):
    """Another process holds it for an hour; its callers here get a typed error, not a cancellation."""
    async with live.open(settings={"runtime.refresh_lease": 3600.0}) as runtime:
        connection = await live.connect(runtime)
        await runtime._core.store.connections.open_refresh(connection.id, owner="other", lease=3600, intent_id="i")
        caller = await flying(runtime, connection.id)
    async with asyncio.timeout(30):
        with pytest.raises(RefreshLocked, match="being closed"):
            await caller
    assert live.sandbox.requests["token"] == 1
    assert live.rows("SELECT owner FROM service_leases") == [("other",)]


async def test_closing_does_not_wait_for_a_predecessors_token_and_gives_the_lease_back(live):
    async with live.open(settings={"runtime.refresh_lease": 3600.0, "runtime.refresh_deadline": 3000.0}) as runtime:
        connection = await live.connect(runtime)
        await runtime._core.store.connections.open_refresh(connection.id, owner="gone", lease=0, intent_id="gone")
        caller = await flying(runtime, connection.id)
        assert live.rows("SELECT owner FROM service_leases") == [(runtime._core.owner,)]
    async with asyncio.timeout(30):
        with pytest.raises(RefreshLocked, match="being closed"):
            await caller
    assert live.sandbox.requests["token"] == 1
    assert live.rows("SELECT owner FROM service_leases") == [(None,)]
    assert live.rows("SELECT id, outcome FROM service_refresh_intents WHERE id = 'gone'") == [("gone", "")]


async def test_closing_while_one_waits_and_one_has_its_request_out_saves_the_token(live):
    async with live.open(settings={"runtime.refresh_lease": 3600.0}) as runtime:
        waits, asks = await live.connect(runtime, "u1"), await live.connect(runtime, "u2")
        await runtime._core.store.connections.open_refresh(waits.id, owner="other", lease=3600, intent_id="i")
        waiting = await flying(runtime, waits.id)
        live.sandbox.faults.set("token", "slow", seconds=0.3)
        before = live.sandbox.requests["token"]
        asking = asyncio.create_task(runtime.refresh(asks.id))
        async with asyncio.timeout(30):
            while live.sandbox.requests["token"] == before:
                await asyncio.sleep(0.002)
    ended = await asyncio.gather(waiting, asking, return_exceptions=True)
    assert isinstance(ended[0], RefreshLocked)
    assert live.rows(f"SELECT max(version) FROM service_credentials WHERE connection_id = '{asks.id}'") == [(2,)]


async def test_renewal_that_would_begin_while_closing_is_refused(app, runtime):
    connection = await app.connect(runtime)
    runtime._core.closing = True
    with pytest.raises(RefreshLocked, match="being closed"):
        await runtime.refresh(connection.id)
    runtime._core.closing = False
    assert app.sandbox.requests["token"] == 1
    assert (await runtime.refresh(connection.id)).status == "active"
