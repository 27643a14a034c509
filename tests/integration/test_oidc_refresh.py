"""Renewing at a server that rotates refresh tokens and ends the grant when one is used twice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from go_services_core import Runtime, Scope
from go_services_core.errors import ReauthRequired, RefreshBackingOff, TokenEndpointError

from .oidc.process import OidcServer
from .oidc.site import ShiftedClock, Site, configure, connect

pytestmark = pytest.mark.integration
LIFE = 300
"""Seconds that the server gives an access token."""


async def test_token_that_ended_is_renewed_before_the_call(
    runtime: Runtime, clock: ShiftedClock, oidc_server: OidcServer
) -> None:
    connection = await connect(runtime)
    old = await runtime.token(connection.id)
    before = len(await oidc_server.refreshes())
    clock.ahead = LIFE + 1

    result = await runtime.execute(connection.id, "userinfo")

    assert (result.data["sub"], result.attempts) == ("alice", 1)
    (refresh,) = (await oidc_server.refreshes())[before:]
    assert refresh["issued"]["refresh"] != refresh["refresh_token"]
    assert (await runtime.token(connection.id)).reveal() == refresh["issued"]["access"] != old.reveal()
    assert not await oidc_server.is_active(refresh["refresh_token"])
    assert await oidc_server.is_active(refresh["issued"]["refresh"])


async def test_each_renewal_uses_the_refresh_token_of_the_one_before(
    runtime: Runtime, clock: ShiftedClock, oidc_server: OidcServer
) -> None:
    connection = await connect(runtime)
    before = len(await oidc_server.refreshes())
    for round in range(1, 4):
        clock.ahead = round * (LIFE + 1)
        assert (await runtime.execute(connection.id, "userinfo")).status == 200

    first, second, third = (await oidc_server.refreshes())[before:]
    assert second["refresh_token"] == first["issued"]["refresh"]
    assert third["refresh_token"] == second["issued"]["refresh"]


async def test_many_callers_with_a_token_that_ended_cause_one_renewal(
    runtime: Runtime, clock: ShiftedClock, oidc_server: OidcServer
) -> None:
    connection = await connect(runtime)
    before = len(await oidc_server.refreshes())
    clock.ahead = LIFE + 1

    results = await asyncio.gather(*(runtime.execute(connection.id, "userinfo") for _ in range(20)))

    assert {result.status for result in results} == {200}
    assert len(await oidc_server.refreshes()) == before + 1


async def test_token_that_ended_at_the_server_is_replaced_in_real_time(
    short_lived_server: OidcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = configure(short_lived_server, tmp_path, monkeypatch)
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection = await connect(runtime)
        held = (await runtime.token(connection.id)).reveal()
        await until_refused(short_lived_server, held)

        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"

        assert await short_lived_server.userinfo((await runtime.token(connection.id)).reveal()) == 200


async def test_token_that_the_server_ended_early_is_replaced_and_the_call_repeated(
    short_lived_server: OidcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ShiftedClock
) -> None:
    site = configure(short_lived_server, tmp_path, monkeypatch)
    async with Runtime.open(site.config, clock=clock, migrate=True) as runtime:
        connection = await connect(runtime)
        held = (await runtime.token(connection.id)).reveal()
        clock.ahead = -3600  # for this machine the token has an hour to live
        await until_refused(short_lived_server, held)

        result = await runtime.execute(connection.id, "userinfo")

        assert (result.data["sub"], result.attempts) == ("alice", 2)
        assert len(await short_lived_server.refreshes()) == 1


async def until_refused(server: OidcServer, access_token: str) -> None:
    deadline = time.monotonic() + 30
    while await server.userinfo(access_token) != 401:
        assert time.monotonic() < deadline, "the server does not end its tokens"
        await asyncio.sleep(0.1)


async def test_refresh_on_demand_keeps_the_connection(runtime: Runtime, oidc_server: OidcServer) -> None:
    connection = await connect(runtime)
    old = await runtime.token(connection.id)

    renewed = await runtime.refresh(connection.id)

    assert (renewed.id, renewed.status, renewed.refresh_state) == (connection.id, "active", "ok")
    assert await runtime.token(connection.id) != old


async def test_stolen_refresh_token_ends_the_grant_and_the_connection_asks_for_consent(
    runtime: Runtime, clock: ShiftedClock, oidc_server: OidcServer
) -> None:
    other = await connect(runtime, Scope("user", "u2"), login="bob")
    connection = await connect(runtime)
    await runtime.refresh(connection.id)
    used = (await oidc_server.refreshes())[-1]

    status, answer = await oidc_server.replay(used["refresh_token"])

    assert (status, answer["error"]) == (400, "invalid_grant")
    assert not await oidc_server.is_active(used["issued"]["refresh"])
    clock.ahead = LIFE + 1
    with pytest.raises(ReauthRequired):
        await runtime.execute(connection.id, "userinfo")
    assert (await runtime.connection(connection.id)).status == "pending_reauth"
    before = len(await oidc_server.refreshes())
    with pytest.raises(ReauthRequired):
        await runtime.execute(connection.id, "userinfo")
    assert len(await oidc_server.refreshes()) == before
    assert (await runtime.execute(other.id, "userinfo")).data["sub"] == "bob"


async def test_consent_after_the_grant_ended_revives_the_connection(runtime: Runtime, oidc_server: OidcServer) -> None:
    connection = await connect(runtime)
    await runtime.refresh(connection.id)
    await oidc_server.replay((await oidc_server.refreshes())[-1]["refresh_token"])
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)

    again = await connect(runtime)

    assert (again.id, again.status) == (connection.id, "active")
    assert (await runtime.execute(connection.id, "userinfo")).status == 200


async def test_wrong_client_secret_leaves_the_connection_active_and_its_refresh_token_unused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection = await connect(runtime)
    monkeypatch.setenv("OIDC_CLIENT_SECRET", "not the client's secret")
    async with Runtime.open(site.config) as runtime:
        with pytest.raises(TokenEndpointError) as refused:
            await runtime.refresh(connection.id)
        assert refused.value.error == "invalid_client"
        assert (await runtime.connection(connection.id)).status == "active"
        assert (await runtime.execute(connection.id, "userinfo")).status == 200

    monkeypatch.setenv("OIDC_CLIENT_SECRET", site.server.client_secret)
    async with Runtime.open(site.config) as runtime:
        try:
            renewed = await runtime.refresh(connection.id)
        except RefreshBackingOff as early:
            await asyncio.sleep(early.metadata["retry_in"])
            renewed = await runtime.refresh(connection.id)
        assert (renewed.status, renewed.refresh_state) == ("active", "ok")
