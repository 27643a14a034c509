"""Tokens that are bound to a key (RFC 9449), through a runtime, against a server that go_services did not write.

The server wants a nonce of its own in every proof.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from go_services_core import HttpRequest, Runtime
from go_services_core.auth.dpop_nonces import wanted_nonce
from go_services_core.errors import InvalidGrant, ReauthRequired
from go_services_core.http import HttpResponse
from go_services_core.secret import SecretStr

from .oidc.bound_clients import ACME, VAULT, WALLET, BoundClient, connect, connect_device, proof_of
from .oidc.browser import Browser
from .oidc.process import PROJECT, OidcServer
from .oidc.site import ALICE, REDIRECT, ShiftedClock

pytestmark = pytest.mark.integration
PAR = 'par_url = "{url}/request"\n'
LIFE = 300
each_client = pytest.mark.parametrize("client", [WALLET, VAULT], ids=["public", "private_key_jwt"])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def arrived(server: OidcServer, client: BoundClient) -> list[dict[str, Any]]:
    return [one for one in await server.requests(None) if one.get("client_id") == client.client_id]


def check_proofs(requests: list[dict[str, Any]]) -> None:
    """All by one key, and none of them twice, nor an assertion."""
    assert len({proof_of(one)[0]["jwk"]["x"] for one in requests}) == 1
    for values in (
        [proof_of(one)[1]["jti"] for one in requests],
        [one["assertion"] for one in requests if "assertion" in one],
    ):
        assert len(set(values)) == len(values)


@each_client
@pytest.mark.parametrize("auth", ["", PAR], ids=["code", "pushed"])
async def test_tokens_are_bound_from_the_consent_to_the_last_renewal(
    bound_server: OidcServer, client: BoundClient, auth: str, tmp_path: Path
) -> None:
    before = len(await arrived(bound_server, client))
    async with Runtime.open(client.write(bound_server, tmp_path, auth=auth), migrate=True) as runtime:
        start = await runtime.connect("login", scope=ALICE, redirect_uri=REDIRECT)
        query = parse_qs(urlsplit(start.url).query)
        assert ("dpop_jkt" in query) == (not auth)  # RFC 9449 §10.1: else it was pushed
        async with Browser() as browser:
            connection = await runtime.complete(await browser.consent(start.url), binding=start.binding)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
        held = (await runtime.token(connection.id)).reveal()
        assert await bound_server.userinfo(held) == 401, "it is no bearer token"
        for _ in range(2):
            await runtime.refresh(connection.id)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
        assert (await runtime.disconnect(connection.id)).revoked
    mine = (await arrived(bound_server, client))[before:]
    tokens = [one for one in mine if one["route"] == "token"]
    assert [one["error"] for one in tokens if "error" in one] == ["use_dpop_nonce"], "the nonce is remembered"
    assert {one["token_type"] for one in tokens if "token_type" in one} == {"DPoP"}
    check_proofs(tokens)
    calls = [one for one in mine if one["route"] == "userinfo" and one["status"] == 200]
    assert {proof_of(one)[0]["jwk"]["x"] for one in calls} == {proof_of(tokens[0])[0]["jwk"]["x"]}


async def test_demand_for_a_nonce_is_no_reason_to_renew(bound_server: OidcServer, tmp_path: Path) -> None:
    """P82: the first call is refused for want of a nonce, and it says nothing of the credential."""
    async with Runtime.open(WALLET.write(bound_server, tmp_path), migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
    before = len(await arrived(bound_server, WALLET)), len(await bound_server.requests("userinfo"))
    async with Runtime.open(tmp_path / "app.toml") as restarted:  # which remembers no nonce
        results = [await restarted.execute(connection.id, "userinfo") for _ in range(3)]
    assert {(result.status, result.attempts) for result in results} == {(200, 1)}
    statuses = [one["status"] for one in (await bound_server.requests("userinfo"))[before[1] :]]
    assert statuses == [401, 200, 200, 200]
    assert [one for one in (await arrived(bound_server, WALLET))[before[0] :] if one["route"] == "token"] == []


async def test_connections_have_keys_of_their_own_and_each_stays_with_its_connection(
    bound_server: OidcServer, tmp_path: Path, clock: ShiftedClock
) -> None:
    before = len(await arrived(bound_server, WALLET))
    async with Runtime.open(WALLET.write(bound_server, tmp_path), clock=clock, migrate=True) as runtime:
        alice = await connect(runtime, bound_server)
        bob = await connect(runtime, bound_server, ACME, login="bob")
        clock.ahead = LIFE + 1
        results = await asyncio.gather(*(runtime.execute(one.id, "userinfo") for one in (alice, bob) * 3))
    assert [result.data["sub"] for result in results] == ["alice", "bob"] * 3
    tokens = [one for one in (await arrived(bound_server, WALLET))[before:] if one.get("issued")]
    keys = [proof_of(one)[0]["jwk"]["x"] for one in tokens]
    assert len(keys) == 4
    assert sorted(keys.count(key) for key in set(keys)) == [2, 2]


async def test_request_that_the_caller_sends_carries_a_proof_with_the_nonce_that_was_asked_for(
    bound_server: OidcServer, tmp_path: Path
) -> None:
    async def send(request: HttpRequest) -> HttpResponse:
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, request.url, headers=request.headers) as answer,
        ):
            return HttpResponse(answer.status, tuple(answer.headers.items()), await answer.read())

    async with Runtime.open(WALLET.write(bound_server, tmp_path), migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
        request = HttpRequest("GET", f"{bound_server.url}/me?x=1")
        asked = await send(await runtime.sign(connection.id, request))
        nonce = wanted_nonce(asked)
        assert nonce is not None
        signed = await runtime.sign(connection.id, request, nonce=nonce)
        assert (await send(signed)).json()["sub"] == "alice"
        assert (await send(signed)).status == 401, "a proof works once"
        assert (await send(await runtime.sign(connection.id, request))).status == 200, "the nonce is remembered"


async def test_bound_tokens_of_a_device_and_of_the_application_itself(
    bound_server: OidcServer, tmp_path: Path, clock: ShiftedClock
) -> None:
    config = WALLET.write(bound_server, tmp_path, kind="oauth2_device_code")
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await connect_device(runtime)
        await runtime.refresh(connection.id)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
    (tmp_path / "app.db").unlink()
    before = len(await arrived(bound_server, VAULT))
    config = VAULT.write(bound_server, tmp_path, kind="oauth2_client_credentials")
    async with Runtime.open(config, clock=clock, migrate=True) as runtime:
        connection = await runtime.establish("login", scope=ACME, fields={})
        clock.ahead = 3600
        await runtime.token(connection.id)
    check_proofs((await arrived(bound_server, VAULT))[before:])


async def test_code_and_refresh_token_of_a_public_client_are_worth_nothing_without_the_key(
    bound_server: OidcServer, tmp_path: Path
) -> None:
    """What the server enforces, so that the tests above prove something (RFC 9449 §5 and §10)."""
    async with Runtime.open(WALLET.write(bound_server, tmp_path), migrate=True) as runtime:
        start = await runtime.connect("login", scope=ALICE, redirect_uri=REDIRECT)
        core = runtime._core
        make = core.jose
        assert make is not None
        async with Browser() as browser:
            callback = await browser.consent(start.url)
        thief = make.new_proof_key(core.clock.random)

        class Thief:
            def __getattr__(self, name: str) -> Any:
                return getattr(make, name)

            def proof(self, key: SecretStr, *args: Any, **more: Any) -> str:
                return make.proof(thief, *args, **more)

        core.jose = Thief()  # type: ignore[misc, assignment]
        with pytest.raises(InvalidGrant):
            await runtime.complete(callback, binding=start.binding)
        core.jose = make  # type: ignore[misc]
        connection = await connect(runtime, bound_server)
        core.jose = Thief()  # type: ignore[misc, assignment]
        with pytest.raises(ReauthRequired):
            await runtime.refresh(connection.id)


async def test_configuration_and_program_of_the_page_work(bound_server: OidcServer, tmp_path: Path) -> None:
    """docs/how-to/bind-tokens-with-dpop.md"""
    page = (PROJECT / "docs" / "how-to" / "bind-tokens-with-dpop.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(program, names)
    config = WALLET.write_page(bound_server, tmp_path, "bind-tokens-with-dpop.md")
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await connect(runtime, bound_server)
    async with Runtime.open(config) as runtime:  # which remembers no nonce
        body = await names["fetch"](runtime, connection.id, f"{bound_server.url}/me")
        assert json.loads(body)["sub"] == "alice"
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
