"""A service account from the key file to a renewed token, through the runtime, against a server on this machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwk as jose_jwk
from joserfc import jwt as jose_jwt

from go_services_core import Runtime, Scope
from go_services_core.errors import BadInput, ReauthRequired, TokenEndpointError
from go_services_secrets_appkey.key import generate_key

from .keys import pem

ROBOT = "robot@acme.iam.example"
CONFIG = """
[store]
url = "sqlite:///go-services.db"

[secrets.appkey]
key = "file:go-services.key"

[providers.drive]
base_url = "{url}"

[providers.drive.auth]
kind = "service_account_jwt"
token_url = "{url}/token"
default_grants = ["drive.read"]

[[providers.drive.capabilities]]
name = "files.read"
grants = ["drive.read"]

[[providers.drive.operations]]
id = "files.list"
method = "GET"
path = "/files"
capability = "files.read"

[egress.allow]
drive = ["{address}"]
"""


class Google:
    """Takes assertions of one service account, each once, and gives tokens that it knows again."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.tokens: list[str] = []
        self.revoked = False
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        key = jose_jwk.RSAKey.import_key(pem("RS256"))
        read = jose_jwt.decode(str(form["assertion"]), key, algorithms=["RS256"])
        claims: dict[str, Any] = read.claims
        good = claims["iss"] == ROBOT and claims["aud"] == f"{self.url}/token" and claims["scope"] == "drive.read"
        if not good or claims["jti"] in self.seen or self.revoked:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.seen.add(claims["jti"])
        self.tokens.append(f"ya29.{len(self.tokens)}")
        return web.json_response({"access_token": self.tokens[-1], "expires_in": 3600, "token_type": "Bearer"})

    async def files(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {self.tokens[-1]}":
            return web.json_response({}, status=401)
        return web.json_response({"files": ["a"]})


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    server, app = Google(), web.Application()
    app.add_routes([web.post("/token", server.token), web.get("/files", server.files)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def runtime(google: Google, tmp_path: Path) -> AsyncIterator[Runtime]:
    text = CONFIG.format(url=google.url, address=google.url.removeprefix("http://"))
    (tmp_path / "go-services.toml").write_text(text, "utf-8")
    (tmp_path / "go-services.key").write_text(generate_key().reveal(), "ascii")
    async with Runtime.open(tmp_path / "go-services.toml", migrate=True) as opened:
        yield opened


def stored_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("go-services.db*"))


def key_file(google: Google) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "client_email": ROBOT,
            "private_key": pem("RS256"),
            "private_key_id": "k1",
            "token_uri": f"{google.url}/token",
        }
    )


async def test_service_account_connects_calls_and_renews_without_a_refresh_token(
    runtime: Runtime, google: Google, tmp_path: Path
) -> None:
    connection = await runtime.establish(
        "drive", scope=Scope("org", "o1"), fields={"service_account_json": key_file(google)}
    )
    assert (await runtime.execute(connection.id, "files.list")).data == {"files": ["a"]}
    _, row = await runtime._core.store.connections.load(connection.id)
    assert row is not None
    assert row.refreshable, "it is renewed before it ends, without being asked"
    await runtime.refresh(connection.id)
    assert google.tokens == ["ya29.0", "ya29.1"]
    assert (await runtime.execute(connection.id, "files.list")).data == {"files": ["a"]}
    assert connection.external_account_id == ROBOT
    assert pem("RS256").split("\n")[1].encode() not in stored_bytes(tmp_path)


async def test_key_that_was_removed_at_the_provider_ends_the_connection(runtime: Runtime, google: Google) -> None:
    connection = await runtime.establish(
        "drive", scope=Scope("org", "o1"), fields={"service_account_json": key_file(google)}
    )
    google.revoked = True
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)
    assert (await runtime.connection(connection.id)).status == "pending_reauth"


async def test_unusable_key_connects_nothing(runtime: Runtime, google: Google) -> None:
    with pytest.raises(BadInput):
        await runtime.establish("drive", scope=Scope("org", "o1"), fields={"service_account_json": "{}"})
    assert (await runtime.connections()).items == ()
    assert google.tokens == []


async def test_same_service_account_is_one_connection_in_its_scope(runtime: Runtime, google: Google) -> None:
    first, again = [
        await runtime.establish("drive", scope=Scope("org", "o1"), fields={"service_account_json": key_file(google)})
        for _ in range(2)
    ]
    other = await runtime.establish(
        "drive", scope=Scope("org", "o2"), fields={"service_account_json": key_file(google)}
    )
    assert first.id == again.id != other.id
    assert first.external_account_id == other.external_account_id == ROBOT


async def test_grants_that_are_asked_for_are_what_the_assertion_asks_for(runtime: Runtime, google: Google) -> None:
    with pytest.raises(TokenEndpointError):  # this server gives drive.read alone
        await runtime.establish(
            "drive",
            scope=Scope("org", "o1"),
            fields={"service_account_json": key_file(google)},
            grants=("drive.write",),
        )
    assert (await runtime.connections()).items == ()
