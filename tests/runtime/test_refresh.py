"""Renewing tokens: once, saved before anyone sees it, and never fatal while it is not certain to be."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from go_services_core import Scope
from go_services_core.errors import (
    CommitUnknown,
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    RefreshLocked,
    RequestTimeout,
    ServicesError,
    StoreUnavailable,
    TokenEndpointError,
    TokenResponseInvalid,
    TransportError,
)
from go_services_core.runtime import refresh as module

EXPIRED = 3600
INSIDE_MARGIN = 3600 - 299


async def stored(runtime, connection_id):
    """What the store holds: connection and sealed credential."""
    return await runtime._core.store.connections.load(connection_id)


def secrets(sandbox, prefix):
    return {secret for secret in sandbox.issued_secrets() if secret.startswith(prefix)}


async def test_expired_token_is_renewed_before_the_call(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        old = await runtime.token(connection.id)
        either.clock.advance(EXPIRED)
        counted()
        result = await runtime.execute(connection.id, "me")
        assert (result.status, result.attempts) == (200, 1)
        assert counted() == {"token": 1, "userinfo": 1}
        assert await runtime.token(connection.id) != old
        assert await either.events(runtime) == ["connection.established", "credential.refreshed"]


async def test_rotated_refresh_tokens_are_used_one_after_the_other(app, runtime):
    connection = await app.connect(runtime)
    for round in range(1, 5):
        app.clock.advance(EXPIRED)
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert len(secrets(app.sandbox, "sbx_rt_")) == round + 1
    _, credential = await stored(runtime, connection.id)
    assert credential.version == 5
    assert app.rows("SELECT count(*), sum(status = 'active') FROM service_credentials") == [(5, 1)]


async def test_manual_refresh_of_a_healthy_connection_leaves_it_healthy(either, counted):
    """P24."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        for _ in range(3):
            assert (await runtime.refresh(connection.id)).status == "active"
        assert (await runtime.execute(connection.id, "me")).attempts == 1
        assert counted()["token"] == 4
        assert (await either.events(runtime)).count("credential.refreshed") == 3


async def test_refresh_keeps_grants_and_old_refresh_token_when_the_answer_omits_them(app, runtime):
    """P15; RFC 6749 §6."""
    connection = await app.connect(runtime, grants=("items.read",))
    for answer in ("no-refresh", "no-scope", "expires-string", "form"):
        app.sandbox.token_answers.set(answer, times=1)
        app.clock.advance(EXPIRED)
        assert (await runtime.execute(connection.id, "items.list", {"per_page": 1})).status == 200
        _, credential = await stored(runtime, connection.id)
        assert (credential.granted, credential.refreshable) == (("items.read",), True)
    assert len(secrets(app.sandbox, "sbx_rt_")) == 4


# --- at once -------------------------------------------------------------------------------------------------------


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
        for secret in secrets(live.sandbox, "sbx_rt_"):
            live.sandbox.ledger.revoke(secret)
        live.sandbox.faults.set("token", "slow", seconds=0.3)
        asking = asyncio.create_task(runtime.refresh(connection.id))
        while live.sandbox.requests["token"] < 2:
            await asyncio.sleep(0.005)
        await live.connect(runtime)
        assert (await asking).status == "active"
        assert (await runtime.execute(connection.id, "me")).attempts == 1
        assert "connection.pending_reauth" not in await live.events(runtime)


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
    assert counted() == {"token": 1, "userinfo": 3}
    (flight,) = runtime._core.tasks
    assert not flight.done()
    flight.cancel()


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
    app.clock.advance(31)
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


# --- the grant is over ---------------------------------------------------------------------------------------------


async def test_ended_grant_is_one_event_and_no_further_token_request(either, counted):
    """P19."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        for secret in secrets(either.sandbox, "sbx_rt_"):
            either.sandbox.ledger.revoke(secret)
        counted()
        outcomes = await asyncio.gather(
            *(runtime.execute(connection.id, "me") for _ in range(10)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {ReauthRequired}
        assert counted()["token"] == 1
        after = await runtime.connection(connection.id)
        assert after.status == "pending_reauth"
        assert "refresh" in after.last_error
        for _ in range(3):
            with pytest.raises(ReauthRequired, match="pending_reauth"):
                await runtime.refresh(connection.id)
            with pytest.raises(ReauthRequired):
                await runtime.execute(connection.id, "me")
            with pytest.raises(ReauthRequired):
                await runtime.token(connection.id)
        assert counted() == {}
        assert await either.events(runtime) == ["connection.established", "connection.pending_reauth"]


async def test_new_consent_ends_pending_reauth(app, runtime):
    connection = await app.connect(runtime)
    for secret in secrets(app.sandbox, "sbx_rt_"):
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)
    again = await app.connect(runtime)
    assert (again.id, again.status, again.last_error) == (connection.id, "active", "")
    assert (await runtime.execute(connection.id, "me")).status == 200


async def test_other_runtime_does_not_ask_after_the_grant_has_ended(app, counted):
    """P19, over processes."""
    async with app.open() as one, app.open() as two:
        connection = await app.connect(one)
        await two.execute(connection.id, "me")
        for secret in secrets(app.sandbox, "sbx_rt_"):
            app.sandbox.ledger.revoke(secret)
        with pytest.raises(ReauthRequired):
            await one.refresh(connection.id)
        counted()
        with pytest.raises(ReauthRequired):
            await two.refresh(connection.id)
        assert counted() == {}
        assert (await app.events(one)).count("connection.pending_reauth") == 1


# --- it is not certain that it is over -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected", "state"),
    [
        ("500", TokenEndpointError, "backing_off"),
        ("503", TokenEndpointError, "backing_off"),
        ("429", TokenEndpointError, "backing_off"),
        ("html", TokenResponseInvalid, "unknown"),
        ("empty", TokenResponseInvalid, "unknown"),
        ("truncated_json", TokenResponseInvalid, "unknown"),
        ("cut", TransportError, "unknown"),
    ],
)
async def test_failing_token_endpoint_keeps_the_connection_active(app, runtime, fault, expected, state):
    """P17; protocols, Refresh 3."""
    connection = await app.connect(runtime)
    app.sandbox.faults.set("token", fault, retry_after=9)
    with pytest.raises(expected):
        await runtime.refresh(connection.id)
    after = await runtime.connection(connection.id)
    assert (after.status, after.refresh_state) == ("active", state)
    assert after.last_error
    assert (await runtime.execute(connection.id, "me")).status == 200
    assert await app.events(runtime) == ["connection.established"]


@pytest.mark.parametrize(
    ("status", "expected", "state"),
    [
        (429, RateLimited, "backing_off"),
        (500, ProviderUnavailable, "backing_off"),
        (502, ProviderUnavailable, "unknown"),
        (504, ProviderUnavailable, "unknown"),
    ],
)
async def test_answer_of_a_gateway_leaves_it_open_what_stood_behind_it(app, runtime, status, expected, state):
    """Protocols, Refresh 3."""
    connection = await app.connect(runtime)
    core = runtime._core
    send = core.transport.send

    async def gateway(request, *, provider_id):
        return evolve(await send(request, provider_id=provider_id), status=status, body=b"<h1>Bad Gateway</h1>")

    core.transport = type("Gateway", (), {"send": staticmethod(gateway)})()
    with pytest.raises(expected):
        await runtime.refresh(connection.id)
    after = await runtime.connection(connection.id)
    assert (after.status, after.refresh_state) == ("active", state)


async def test_timeout_at_the_token_endpoint_keeps_the_connection_active(app, runtime, monkeypatch):
    """P17."""
    monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.05)
    connection = await app.connect(runtime)
    app.sandbox.faults.set("token", "slow", seconds=30)
    with pytest.raises(RequestTimeout):
        await runtime.refresh(connection.id)
    after = await runtime.connection(connection.id)
    assert (after.status, after.refresh_state) == ("active", "unknown")


async def test_lost_answer_of_a_provider_that_does_not_rotate_is_only_a_failure(app):
    """Protocols, Refresh 3."""
    app.sandbox.rotation = "none"
    app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], rotation="none"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("token", "cut")
        with pytest.raises(TransportError):
            await runtime.refresh(connection.id)
        assert (await runtime.connection(connection.id)).refresh_state == "backing_off"
        await runtime.refresh(connection.id)


async def test_unreachable_token_endpoint_is_only_a_failure(app):
    """P17: nothing was sent, so the refresh token is certainly unused."""
    auth = evolve(app.providers.specs["sandbox"].auth[0], token_url="http://127.0.0.1:9/token")
    app.settings["egress.allow"]["sandbox"].append("127.0.0.1:9")
    async with app.open() as runtime:
        connection = await app.connect(runtime)
    app.set(auth=auth)
    async with app.open() as runtime:
        with pytest.raises(TransportError) as failed:
            await runtime.refresh(connection.id)
        assert not failed.value.sent
        after = await runtime.connection(connection.id)
        assert (after.status, after.refresh_state) == ("active", "backing_off")


async def test_success_clears_what_a_failure_left(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        either.sandbox.faults.set("token", "500")
        with pytest.raises(TokenEndpointError):
            await runtime.refresh(connection.id)
        refreshed = await runtime.refresh(connection.id)
        assert (refreshed.refresh_state, refreshed.last_error) == ("ok", "")


async def test_other_oauth_errors_keep_the_connection_active(app, runtime):
    """Only invalid_grant says that the grant is over (RFC 6749 §5.2)."""
    connection = await app.connect(runtime)
    app.sandbox.token_answers.set("error-200", times=1)
    with pytest.raises(TokenEndpointError):
        await runtime.refresh(connection.id)
    assert (await runtime.connection(connection.id)).status == "active"
    assert (await runtime.refresh(connection.id)).refresh_state == "ok"


async def test_error_text_that_is_kept_holds_no_secret(app, runtime):
    connection = await app.connect(runtime)
    for secret in secrets(app.sandbox, "sbx_rt_"):
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired) as ended:
        await runtime.refresh(connection.id)
    said = f"{ended.value} {ended.value.__cause__} {(await runtime.connection(connection.id)).last_error}"
    assert not [secret for secret in app.sandbox.issued_secrets() if secret in said]


# --- saving --------------------------------------------------------------------------------------------------------


class FailingStore:
    """The real facet, whose ``close_refresh`` fails a few times, before or after it has done its work."""

    def __init__(self, facet, *, error, times, committed):
        self._facet, self._error, self._left, self._committed = facet, error, times, committed

    def __getattr__(self, name):
        return getattr(self._facet, name)

    async def close_refresh(self, *args, **kwargs):
        if self._left:
            self._left -= 1
            if self._committed:
                await self._facet.close_refresh(*args, **kwargs)
            raise self._error
        await self._facet.close_refresh(*args, **kwargs)


@pytest.mark.parametrize(
    ("error", "times", "committed"),
    [(StoreUnavailable, 3, False), (CommitUnknown, 1, False), (CommitUnknown, 1, True)],
)
async def test_new_token_is_kept_until_the_store_takes_it(app, runtime, counted, error, times, committed):
    """Protocols, Refresh 6."""
    connection = await app.connect(runtime)
    store = runtime._core.store
    store.connections = FailingStore(store.connections, error=error, times=times, committed=committed)
    counted()
    assert (await runtime.refresh(connection.id)).refresh_state == "ok"
    assert counted() == {"token": 1}
    _, credential = await stored(runtime, connection.id)
    assert credential.version == 2
    assert (await runtime.execute(connection.id, "me")).attempts == 1
    assert (await app.events(runtime)).count("credential.refreshed") == 1


async def test_lease_of_a_dead_holder_is_waited_for_and_then_named(app, runtime, monkeypatch):
    monkeypatch.setattr(module, "LEASE", 2.0)
    connection = await app.connect(runtime)
    await runtime._core.store.connections.open_refresh(connection.id, owner="dead", lease=60, intent_id="i1")
    with pytest.raises(RefreshLocked):
        await asyncio.wait_for(runtime.refresh(connection.id), 60)
    assert app.sandbox.requests["token"] == 1
    app.rows("UPDATE service_leases SET expires_at = '2000-01-01 00:00:00.000000'")
    assert (await runtime.refresh(connection.id)).status == "active"


async def test_refresh_of_a_disconnected_connection_is_refused(either, counted):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        await runtime.disconnect(connection.id)
        counted()
        with pytest.raises(ReauthRequired, match="disconnected"):
            await runtime.refresh(connection.id)
        assert counted() == {}


async def test_refresh_of_an_unknown_connection_is_refused(runtime):
    with pytest.raises(ServicesError) as missing:
        await runtime.refresh("nobody")
    assert missing.value.status == 404


async def test_unreadable_credential_is_typed_and_leaves_no_lease_behind(app, runtime):
    connection = await app.connect(runtime)
    other = await app.connect(runtime, "u2")
    app.rows(
        "UPDATE service_credentials SET encrypted_payload ="
        " (SELECT encrypted_payload FROM service_credentials WHERE connection_id = ?) WHERE connection_id = ?",
        other.id, connection.id,
    )  # fmt: skip
    runtime._core.forget(connection.id)
    for _ in range(2):
        with pytest.raises(ServicesError) as failed:
            await runtime.refresh(connection.id)  # P50
        assert type(failed.value).__name__ == "CannotOpen"
    assert app.sandbox.requests["token"] == 2
    assert (await runtime.execute(other.id, "me")).status == 200


# --- statements ----------------------------------------------------------------------------------------------------


async def test_refresh_is_two_units_of_at_most_eight_statements_and_none_between(app, runtime):
    """P22: nothing runs, and no transaction is open, while the provider is asked."""
    connection = await app.connect(runtime)
    loaded = await runtime._core.store.connections.load(connection.id)
    assert loaded
    seen = []
    core = runtime._core
    transport = core.transport
    send = transport.send

    async def noted(request, *, provider_id):
        seen.append("SEND")
        answer = await send(request, provider_id=provider_id)
        seen.append("ANSWER")
        return answer

    core.transport = type("Noted", (), {"send": staticmethod(noted)})()
    core.store.trace(lambda text: seen.append(text.split(maxsplit=1)[0].upper()))
    await module.refresh(core, connection.id, used=1)
    core.store.trace(None)

    at = seen.index("SEND")
    assert seen[at : at + 2] == ["SEND", "ANSWER"]
    opening = seen[seen.index("BEGIN") + 1 : seen.index("COMMIT")]
    closing = seen[at + 3 : seen.index("COMMIT", at)]
    assert seen.count("BEGIN") == seen.count("COMMIT") == 2
    assert seen[at - 1] == "COMMIT"
    assert seen[at + 2] == "BEGIN"
    assert len(opening) + len(closing) <= 8
    assert set(seen) - {"SEND", "ANSWER"} <= {"BEGIN", "COMMIT", "SELECT", "INSERT", "UPDATE"}
    outside = seen[: seen.index("BEGIN")] + seen[seen.index("COMMIT", at) + 1 :]
    assert outside == ["SELECT", "SELECT"]


async def test_scope_of_the_connection_does_not_change_by_a_refresh(app, runtime):
    connection = await app.connect(runtime)
    refreshed = await runtime.refresh(connection.id)
    assert (refreshed.scope, refreshed.created_at) == (Scope("user", "u1"), connection.created_at)
