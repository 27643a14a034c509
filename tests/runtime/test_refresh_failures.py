"""A grant that is over ends the connection once; whatever is not certain to be that, never does."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from go_services_core.errors import (
    ProviderUnavailable,
    RateLimited,
    ReauthRequired,
    RequestTimeout,
    TokenEndpointError,
    TokenResponseInvalid,
    TransportError,
)

PAUSE = 2
"""Seconds after which a first failure is tried again."""


async def test_ended_grant_is_one_event_and_no_further_token_request(either, counted):
    """P19."""
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        for secret in either.secrets("sbx_rt_"):
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
    for secret in app.secrets("sbx_rt_"):
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
        for secret in app.secrets("sbx_rt_"):
            app.sandbox.ledger.revoke(secret)
        with pytest.raises(ReauthRequired):
            await one.refresh(connection.id)
        counted()
        with pytest.raises(ReauthRequired):
            await two.refresh(connection.id)
        assert counted() == {}
        assert (await app.events(one)).count("connection.pending_reauth") == 1


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


async def test_timeout_at_the_token_endpoint_keeps_the_connection_active(app):
    """P17: a single request has two thirds of ``refresh_deadline``."""
    async with app.open(settings={"runtime.refresh_deadline": 0.3}) as runtime:
        connection = await app.connect(runtime)
        timeouts = []
        send = runtime._core.transport.send

        async def noted(request, *, provider_id):
            timeouts.append(request.timeout)
            return await send(request, provider_id=provider_id)

        runtime._core.transport = type("Noting", (), {"send": staticmethod(noted)})()
        app.sandbox.faults.set("token", "slow", seconds=30)
        with pytest.raises(RequestTimeout):
            await runtime.refresh(connection.id)
        assert timeouts == [pytest.approx(0.2)]
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
        app.age(PAUSE)
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
        either.age(PAUSE)
        refreshed = await runtime.refresh(connection.id)
        assert (refreshed.refresh_state, refreshed.last_error) == ("ok", "")


async def test_other_oauth_errors_keep_the_connection_active(app, runtime):
    """Only invalid_grant says that the grant is over (RFC 6749 §5.2)."""
    connection = await app.connect(runtime)
    app.sandbox.token_answers.set("error-200", times=1)
    with pytest.raises(TokenEndpointError):
        await runtime.refresh(connection.id)
    assert (await runtime.connection(connection.id)).status == "active"
    app.age(PAUSE)
    assert (await runtime.refresh(connection.id)).refresh_state == "ok"


async def test_error_text_that_is_kept_holds_no_secret(app, runtime):
    connection = await app.connect(runtime)
    for secret in app.secrets("sbx_rt_"):
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired) as ended:
        await runtime.refresh(connection.id)
    said = f"{ended.value} {ended.value.__cause__} {(await runtime.connection(connection.id)).last_error}"
    assert not [secret for secret in app.sandbox.issued_secrets() if secret in said]
