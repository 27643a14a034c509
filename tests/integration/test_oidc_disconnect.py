"""Disconnecting at a server that can tell afterwards whether it was told."""

from __future__ import annotations

import pytest

from go_services_core import Runtime, Scope
from go_services_core.errors import ReauthRequired

from .oidc.process import OidcServer
from .oidc.site import Site, connect

pytestmark = pytest.mark.integration


async def test_disconnect_revokes_access_and_refresh_token_at_the_server(
    runtime: Runtime, oidc_server: OidcServer
) -> None:
    connection = await connect(runtime)
    await runtime.refresh(connection.id)
    issued = (await oidc_server.refreshes())[-1]["issued"]
    assert await oidc_server.userinfo(issued["access"]) == 200

    ended = await runtime.disconnect(connection.id, reason="user asked")

    assert ended.revoked
    assert ended.connection.status == "disconnected"
    assert await oidc_server.userinfo(issued["access"]) == 401
    assert not await oidc_server.is_active(issued["refresh"])
    assert (await oidc_server.replay(issued["refresh"]))[1]["error"] == "invalid_grant"


async def test_disconnected_connection_calls_nobody(runtime: Runtime, oidc_server: OidcServer) -> None:
    connection = await connect(runtime)
    await runtime.disconnect(connection.id)
    seen = len(await oidc_server.requests("userinfo")), len(await oidc_server.requests("token"))

    with pytest.raises(ReauthRequired, match="disconnected"):
        await runtime.execute(connection.id, "userinfo")
    with pytest.raises(ReauthRequired, match="disconnected"):
        await runtime.refresh(connection.id)

    assert seen == (len(await oidc_server.requests("userinfo")), len(await oidc_server.requests("token")))


async def test_disconnecting_twice_asks_the_server_once(runtime: Runtime, oidc_server: OidcServer) -> None:
    connection = await connect(runtime)
    await runtime.disconnect(connection.id)
    before = len(await oidc_server.requests("revocation"))

    again = await runtime.disconnect(connection.id)

    assert (again.connection.status, again.revoked) == ("disconnected", False)
    assert len(await oidc_server.requests("revocation")) == before


async def test_disconnecting_one_person_leaves_the_other_connected(runtime: Runtime) -> None:
    alice = await connect(runtime)
    bob = await connect(runtime, Scope("user", "u2"), login="bob")

    await runtime.disconnect(alice.id)

    assert (await runtime.execute(bob.id, "userinfo")).data["sub"] == "bob"
    assert (await runtime.refresh(bob.id)).status == "active"


async def test_disconnect_ends_the_connection_though_the_server_refuses_the_client(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Runtime.open(site.config, migrate=True) as runtime:
        connection = await connect(runtime)
        held = (await runtime.token(connection.id)).reveal()
    monkeypatch.setenv("OIDC_CLIENT_SECRET", "not the client's secret")
    async with Runtime.open(site.config) as runtime:
        ended = await runtime.disconnect(connection.id)

    assert (ended.connection.status, ended.revoked) == ("disconnected", False)
    assert "401" in ended.detail
    assert await site.server.userinfo(held) == 200


async def test_person_may_connect_again_after_disconnecting(runtime: Runtime) -> None:
    first = await connect(runtime)
    await runtime.disconnect(first.id)

    again = await connect(runtime)

    assert again.status == "active"
    assert (await runtime.execute(again.id, "userinfo")).data["sub"] == "alice"
