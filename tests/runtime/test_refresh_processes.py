"""Renewing with real processes on one database file: racing, and killed at the worst moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from go_services_core.errors import ReauthRequired

WORKER = """
import asyncio, json, sys
import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Runtime
from go_services_core.config import Config
from go_services_core.plugins import PluginManager

settings, connection_id = json.loads(sys.argv[1]), sys.argv[2]

def say(word):
    print(word, flush=True)

async def main():
    plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http})
    async with Runtime.open(Config.load(None, environ={}, arguments=settings), plugins=plugins) as runtime:
        if len(sys.argv) > 3:  # stop for ever once the provider has answered
            transport = runtime._core.transport
            send = transport.send
            async def stuck(request, *, provider_id):
                answer = await send(request, provider_id=provider_id)
                say("answered")
                await asyncio.Event().wait()
            runtime._core.transport = type("Stuck", (), {"send": staticmethod(stuck)})()
            await runtime.refresh(connection_id)
        await runtime.execute(connection_id, "me")
        say("ready")
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            calls = (runtime.execute(connection_id, "me") for _ in range(4))
            done = await asyncio.gather(*calls, return_exceptions=True)
            say(json.dumps([getattr(result, "status", repr(result)) for result in done]))

asyncio.run(main())
"""


def declared(app):
    """The application's settings with the provider declared in them, as a configuration file would."""
    url = app.sandbox.url
    auth = {
        "kind": "oauth2_auth_code",
        "authorize_url": f"{url}/authorize",
        "token_url": f"{url}/token",
        "issuer": url,
        "rotation": "single-use",
    }
    return {
        "runtime.allow_plaintext_secrets": True,
        "store.url": app.settings["store.url"],
        "secrets.appkey.key": app.key.reveal(),
        "egress.allow.sandbox": app.settings["egress.allow"]["sandbox"],
        "providers.sandbox": {
            "client_id": app.sandbox.client_id,
            "client_secret": app.sandbox.client_secret.reveal(),
            "auth": auth,
            "api": {"base_url": url},
            "operations": [{"id": "me", "method": "GET", "path": "/userinfo"}],
        },
    }


@asynccontextmanager
async def worker(app, connection_id, *more):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, json.dumps(declared(app)), connection_id, *more,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process):
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()


async def test_three_processes_with_one_expired_token_make_one_token_request(live):
    """P10, P13: a single-use token that two processes spend ends the whole family."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        async with (
            worker(live, connection.id) as one,
            worker(live, connection.id) as two,
            worker(live, connection.id) as three,
        ):
            processes = (one, two, three)
            assert [await line(process) for process in processes] == ["ready"] * 3
            for round in range(6):
                before = live.sandbox.requests["token"]
                live.sandbox.expire_access_tokens()
                live.sandbox.faults.set("token", "slow", seconds=0.02)
                for process in processes:
                    process.stdin.write(b"go\n")
                for process in processes:
                    assert json.loads(await line(process)) == [200] * 4, f"round {round}"
                assert live.sandbox.requests["token"] - before == 1, f"round {round}"
        assert (await runtime.connection(connection.id)).status == "active"
        assert (await live.events(runtime)).count("credential.refreshed") == 6


@pytest.mark.chaos
async def test_process_killed_between_the_answer_and_its_commit_ends_in_a_typed_outcome(live):
    """P11: the new token is lost for ever; the outcome is known, and no loop follows."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        async with worker(live, connection.id, "stuck") as process:
            assert await line(process) == "answered"
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        assert live.sandbox.requests["token"] == 2
        assert live.rows("SELECT version FROM service_credentials") == [(1,)]
        assert live.rows("SELECT owner IS NOT NULL FROM service_leases") == [(1,)]
        # The old access token is valid still: nobody has to wait for the dead.
        assert (await runtime.execute(connection.id, "me")).status == 200

        live.sandbox.expire_access_tokens()
        live.rows("UPDATE service_leases SET expires_at = '2000-01-01 00:00:00.000000'")
        for _ in range(3):
            with pytest.raises(ReauthRequired):
                await runtime.execute(connection.id, "me")
        assert live.sandbox.requests["token"] == 3
        assert (await runtime.connection(connection.id)).status == "pending_reauth"
        assert (await live.events(runtime)).count("connection.pending_reauth") == 1
        assert (await live.connect(runtime)).id == connection.id


@pytest.mark.chaos
async def test_late_holder_neither_overwrites_nor_releases_its_successor(live):
    """P12: the first holder is stopped until its lease is over, and goes on when another has renewed."""
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        live.sandbox.rotation = "none"
        async with worker(live, connection.id) as process:
            assert await line(process) == "ready"
            live.sandbox.expire_access_tokens()
            live.sandbox.faults.set("token", "slow", seconds=0.3)
            process.stdin.write(b"go\n")
            while live.sandbox.requests["token"] < 2:
                await asyncio.sleep(0.005)
            os.kill(process.pid, signal.SIGSTOP)
            live.rows("UPDATE service_leases SET expires_at = '2000-01-01 00:00:00.000000'")
            assert (await runtime.execute(connection.id, "me")).status == 200
            _, winner = await live.stored(runtime, connection.id)
            await asyncio.sleep(0.35)
            os.kill(process.pid, signal.SIGCONT)
            assert json.loads(await line(process)) == [200] * 4
        _, after = await live.stored(runtime, connection.id)
        assert (after.id, after.version) == (winner.id, 2)
        assert (await live.events(runtime)).count("credential.refreshed") == 1
