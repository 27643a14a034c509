"""Who somebody is, decided by several processes on one database at the same moment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest

from go_services_core import Runtime, Scope, SystemClock
from go_services_core.config import Config
from go_services_core.testing.postgres import PostgresServer
from go_services_secrets_appkey.key import generate_key

from .openid_server import CLIENT, REDIRECT, USER, OpenIdApp, serving
from .shop_server import settings, trading

pytestmark = pytest.mark.chaos
REQUIRED = "GO_SERVICES_REQUIRE_INTEGRATION"
_numbers = count()

WORKER = """
import asyncio, json, sys
from go_services_core import Runtime, Scope
from go_services_core.config import Config
from go_services_core.errors import ServicesError

def say(word):
    print(word, flush=True)

async def main():
    async with Runtime.open(Config.load(None, environ={}, arguments=json.loads(sys.argv[1]))) as runtime:
        say("ready")
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            try:
                if "binding" in order:
                    made = await runtime.complete(order["params"], binding=order["binding"])
                else:
                    made = await runtime.establish("shop", scope=Scope("org", "o1"), fields=order["fields"])
                say(json.dumps([made.id, made.external_account_id]))
            except ServicesError as error:
                say(json.dumps([type(error).__name__]))

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'app.db'}"
    running: PostgresServer = request.getfixturevalue("database_server")
    template: str = request.getfixturevalue("postgres_template")
    name = f"go_services_identity_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(running.base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return running.url(name)


@asynccontextmanager
async def workers(arguments: dict[str, Any], number: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(number):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WORKER, json.dumps(arguments),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            stack.push_async_callback(process.communicate, b"")  # which ends its input
            started.append(process)
        for process in started:
            assert await said(process) == "ready"
        yield started


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def at_once(processes: list[asyncio.subprocess.Process], orders: list[dict[str, Any]]) -> list[list[str]]:
    for process, order in zip(processes, orders, strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
    return [json.loads(await said(process)) for process in processes]


async def test_first_callbacks_of_one_account_at_once_make_one_connection(
    store_url: str, tmp_path: Path, chaos: Any
) -> None:
    """P04, P09: other workers than the one that began, and both find no connection yet."""
    async with serving() as issuer:
        site = OpenIdApp(issuer, SystemClock(), tmp_path)
        auth = {
            name: value
            for name, value in attrs.asdict(site.spec.auth[0]).items()
            if name in ("issuer", "authorize_url", "token_url", "jwks_url", "default_grants")
        }
        arguments = {
            "runtime.allow_plaintext_secrets": True,
            "store.url": store_url,
            "secrets.appkey.key": generate_key().reveal(),
            "egress.allow.login": [urlsplit(issuer.url).netloc],
            "providers.login": {
                "client_id": CLIENT, "client_secret": "a client secret", "auth": {"kind": "oauth2_auth_code", **auth},
            },
        }  # fmt: skip
        config = Config.load(None, environ={}, arguments=arguments)
        async with Runtime.open(config, migrate=True) as runtime, workers(arguments, 2) as processes:
            for round in range(chaos.rounds(5, 50)):
                issuer.account = {"sub": f"person-{round}"}
                orders = []
                for _ in processes:
                    start = await runtime.connect("login", scope=USER, redirect_uri=REDIRECT)
                    orders.append({"params": issuer.consent(start.url), "binding": start.binding.reveal()})
                one, other = await at_once(processes, orders)
                assert one == other
                assert one[1] == f"{issuer.url}|person-{round}"
                _, row = await runtime._core.store.connections.load(one[0])
                assert row is not None
                assert row.version == 2
            assert len((await runtime.connections()).items) == round + 1


async def test_session_token_that_two_processes_use_at_once_works_for_one(store_url: str, chaos: Any) -> None:
    async with trading() as shop:
        arguments = settings(shop, store_url, generate_key().reveal())
        config = Config.load(None, environ={}, arguments=arguments)
        async with Runtime.open(config, migrate=True) as runtime, workers(arguments, 2) as processes:
            rounds = chaos.rounds(5, 50)
            for _ in range(rounds):
                order = {"fields": {"session_token": shop.session_token()}}
                answers = await at_once(processes, [order, order])
                (made,) = [one for one in answers if one[-1] == shop.host]
                (refused,) = [one for one in answers if one != made]
                assert refused == ["ReplayDetected"]
            assert len(shop.forms) == rounds
            assert [one.id for one in (await runtime.connections(scope=Scope("org", "o1"))).items] == [made[0]]
