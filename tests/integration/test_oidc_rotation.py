"""Refresh tokens that work once, at a server that ends the grant when one is used twice: races, and a real reuse."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from go_services_core import Runtime
from go_services_core.errors import ReauthRequired

from .oidc.bound_clients import SIGNING, VAULT, WALLET, BoundClient, connect, proof_of
from .oidc.process import OidcServer
from .oidc.renewer import renewer

pytestmark = pytest.mark.integration
each_client = pytest.mark.parametrize(
    "client", [SIGNING[2], WALLET, VAULT], ids=["private_key_jwt", "dpop", "private_key_jwt with dpop"]
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.chaos
@each_client
async def test_two_processes_that_renew_at_once_spend_no_refresh_token_twice(
    bound_server: OidcServer, client: BoundClient, tmp_path: Path, chaos: Any
) -> None:
    """P10, P13: what one of them spends the other does not; the key of bound tokens is in the sealed credential."""
    config = client.write(bound_server, tmp_path)
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
        before = len(await bound_server.refreshes())
        rounds = chaos.rounds(8, 200)
        async with renewer(config, connection.id) as one, renewer(config, connection.id) as two:
            for round in range(rounds):
                one.go()
                two.go()
                assert [await one.said(), await two.said()] == ["active"] * 2, f"round {round}"
        asked = (await bound_server.refreshes())[before:]
        renewed = [request for request in asked if request.get("error") is None]
        assert len(renewed) == rounds
        assert {request["error"] for request in asked if request.get("error")} <= {"use_dpop_nonce"}
        spent = [request["refresh_token"] for request in renewed]
        assert len(set(spent)) == rounds
        for name in ("proof", "assertion"):
            sent = [request[name] for request in asked if name in request]
            assert len(set(sent)) == len(sent)
        assert len({proof_of(request)[0]["jwk"]["x"] for request in asked if "proof" in request}) <= 1
    async with Runtime.open(config) as restarted:
        assert (await restarted.execute(connection.id, "userinfo")).data["sub"] == "alice"


@each_client
async def test_refresh_token_of_a_backup_that_was_used_since_ends_the_grant_and_is_asked_for_once(
    bound_server: OidcServer, client: BoundClient, tmp_path: Path
) -> None:
    """What the test above never trips: the server sees a reuse, and the connection asks for a consent. P19"""
    config = client.write(bound_server, tmp_path)
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
    backup = tmp_path / "backup"
    shutil.copytree(tmp_path, backup, ignore=shutil.ignore_patterns("backup"))
    async with Runtime.open(config) as runtime:
        assert (await runtime.refresh(connection.id)).status == "active"

    async with Runtime.open(config, arguments={"store.url": f"sqlite:///{backup / 'app.db'}"}) as restored:
        with pytest.raises(ReauthRequired):
            await restored.refresh(connection.id)

    async with Runtime.open(config) as runtime:
        with pytest.raises(ReauthRequired):
            await runtime.refresh(connection.id)
        assert (await runtime.connection(connection.id)).status == "pending_reauth"
        before = len(await bound_server.refreshes())
        with pytest.raises(ReauthRequired):
            await runtime.execute(connection.id, "userinfo")
        assert len(await bound_server.refreshes()) == before
        again = await connect(runtime, bound_server)
        assert (again.id, again.status) == (connection.id, "active")
