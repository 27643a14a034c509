"""Many callers, two runtimes, slow endpoints: one token request, and nobody waits without need."""

from __future__ import annotations

import asyncio

EXPIRED = 3600
INSIDE_MARGIN = 3600 - 299


async def test_fifty_callers_with_one_expired_token_make_one_token_request(either, counted):
    """P10."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.clock.advance(EXPIRED)
        counted()
        results = await asyncio.gather(*(runtime.execute(connection.id, "me") for _ in range(50)))
        assert {result.status for result in results} == {200}
        assert counted() == {"token": 1, "userinfo": 50}


async def test_fifty_callers_with_one_revoked_access_token_make_one_token_request(app, runtime, counted):
    """P10: here each learns it by a 401."""
    connection = await app.connect(runtime)
    app.sandbox.expire_access_tokens()
    counted()
    results = await asyncio.gather(*(runtime.execute(connection.id, "me") for _ in range(50)))
    assert {result.status for result in results} == {200}
    assert counted()["token"] == 1


async def test_two_runtimes_on_one_database_make_one_token_request_each_time(live):
    """P10, P13: a single-use token, spent twice, would end the whole family."""
    async with live.open() as one, live.open() as two:
        connection = await live.connect(one)
        for round in range(10):
            for runtime in (one, two):
                await runtime.execute(connection.id, "me")
            live.sandbox.expire_access_tokens()
            live.sandbox.faults.set("token", "slow", seconds=0.03)
            before = live.sandbox.requests["token"]
            results = await asyncio.gather(
                *(runtime.execute(connection.id, "me") for _ in range(5) for runtime in (one, two))
            )
            assert {result.status for result in results} == {200}
            assert live.sandbox.requests["token"] - before == 1, f"round {round}"
        assert (await one.connection(connection.id)).status == "active"
        assert (await live.events(one)).count("credential.refreshed") == 10


async def test_loser_adopts_what_the_winner_stored(app, counted):
    """P13."""
    async with app.open() as one, app.open() as two:
        connection = await app.connect(one)
        await two.execute(connection.id, "me")
        await one.refresh(connection.id)
        counted()
        app.clock.advance(1)
        refreshed = await two.refresh(connection.id)
        assert refreshed.status == "active"
        assert counted() == {}
        assert await one.token(connection.id) == await two.token(connection.id)


async def test_invalid_grant_adopts_a_consent_that_came_while_the_provider_was_asked(live):
    """P13: the refusal is about the old grant; a newer credential is stored."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        for secret in live.secrets("sbx_rt_"):
            live.sandbox.ledger.revoke(secret)
        live.sandbox.faults.set("token", "slow", seconds=0.3)
        asking = asyncio.create_task(runtime.refresh(connection.id))
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.005)
        await live.connect(runtime)
        assert (await asking).status == "active"
        assert (await runtime.execute(connection.id, "me")).attempts == 1
        assert "connection.pending_reauth" not in await live.events(runtime)


async def test_consent_that_overtakes_a_renewal_wins_and_nothing_stays_locked(live):
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.faults.set("token", "slow", seconds=0.2)
        refreshing = asyncio.create_task(runtime.refresh(connection.id))
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.005)
        await live.connect(runtime)
        _, consented = await live.stored(runtime, connection.id)
        assert (await refreshing).status == "active"
        _, after = await live.stored(runtime, connection.id)
        assert (after.id, after.version) == (consented.id, 2)
        assert live.rows("SELECT owner FROM service_leases") == [(None,)]
        assert (await asyncio.wait_for(runtime.refresh(connection.id), 5)).status == "active"


async def test_cancelled_caller_does_not_cancel_the_renewal(live):
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.expire_access_tokens()
        live.sandbox.faults.set("token", "slow", seconds=0.1)
        calls = [asyncio.create_task(runtime.refresh(connection.id)) for _ in range(2)]
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.005)
        calls[0].cancel()
        assert (await calls[1]).status == "active"
        assert calls[0].cancelled()
        assert live.sandbox.requests["token"] == 2


async def test_closing_waits_for_a_renewal_that_nobody_waits_for(live):
    """A token that was issued is not lost to a shutdown."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.faults.set("token", "slow", seconds=0.1)
        caller = asyncio.create_task(runtime.refresh(connection.id))
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.005)
        caller.cancel()
    assert live.rows("SELECT max(version) FROM service_credentials") == [(2,)]
    async with live.open() as runtime:
        assert (await runtime.execute(connection.id, "me")).attempts == 1


async def test_caller_whose_token_is_still_valid_does_not_wait(app, runtime, counted):
    """P21."""
    connection = await app.connect(runtime)
    app.clock.advance(INSIDE_MARGIN)
    app.sandbox.faults.set("token", "slow", seconds=60)
    counted()
    for _ in range(3):
        result = await asyncio.wait_for(runtime.execute(connection.id, "me"), 5)
        assert (result.status, result.attempts) == (200, 1)
    (flight,) = runtime._core.tasks
    while app.sandbox.requests["token"] < 2:
        await asyncio.sleep(0.002)
    assert not flight.done()
    flight.cancel()
    assert counted() == {"token": 1, "userinfo": 3}


async def test_renewal_beside_the_call_is_used_by_the_next_one(app, runtime, counted):
    connection = await app.connect(runtime)
    old = await runtime.token(connection.id)
    app.clock.advance(INSIDE_MARGIN)
    assert await runtime.token(connection.id) == old
    await asyncio.gather(*runtime._core.tasks)
    counted()
    assert await runtime.token(connection.id) != old
    assert counted() == {}


async def test_slow_renewal_of_one_connection_does_not_hold_up_another(app, runtime):
    """P21."""
    slow = await app.connect(runtime, "u1")
    app.clock.advance(EXPIRED - 1000)
    quick = await app.connect(runtime, "u2")
    app.clock.advance(1000)
    app.sandbox.faults.set("token", "slow", seconds=60)
    waiting = asyncio.create_task(runtime.execute(slow.id, "me"))
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(runtime.execute(quick.id, "me"), 5)).status == 200
    for task in (waiting, *runtime._core.tasks):
        task.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_failing_endpoint_is_not_asked_by_every_call_while_the_token_is_valid(app, runtime, counted):
    """P20."""
    connection = await app.connect(runtime)
    app.clock.advance(INSIDE_MARGIN)
    app.sandbox.faults.set("token", "503", times=None)
    counted()
    for _ in range(20):
        assert (await runtime.execute(connection.id, "me")).status == 200
        await asyncio.gather(*runtime._core.tasks, return_exceptions=True)
    assert counted() == {"token": 1, "userinfo": 20}
    app.clock.advance(11)
    await runtime.execute(connection.id, "me")
    await asyncio.gather(*runtime._core.tasks, return_exceptions=True)
    assert counted() == {"userinfo": 1}
    app.clock.advance(11)
    app.age(2)
    await runtime.execute(connection.id, "me")
    await asyncio.gather(*runtime._core.tasks, return_exceptions=True)
    assert counted()["token"] == 1


async def test_token_that_never_lives_long_causes_no_storm(app, runtime, counted):
    """P20: one request for each second that it lives, not for each call."""
    app.sandbox.access_token_lifetime = 10
    connection = await app.connect(runtime)
    app.clock.advance(10)
    counted()
    for _ in range(10):
        await runtime.execute(connection.id, "me")
    assert counted()["token"] == 1
