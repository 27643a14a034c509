"""Processes of their own that renew, and that kill themselves where they are told to."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

HEAD = """
import asyncio, json, os, signal, sys, threading
import go_services_secrets_appkey.plugin as appkey
import go_services_store_postgres.plugin as postgres
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Runtime
from go_services_core.config import Config
from go_services_core.plugins import PluginManager

settings = json.loads(sys.argv[1])

def say(word):
    print(word, flush=True)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def killing(call, place, delay=0.0):
    async def killed(*args, **kwargs):
        if place == "before":
            die()
        if place == "during":
            threading.Timer(delay, die).start()
        result = await call(*args, **kwargs)
        die()
        return result
    return killed

class Beside:
    def __init__(self, real, **calls):
        self.__dict__.update(calls)
        self.real = real
    def __getattr__(self, name):
        return getattr(self.real, name)

def plugins():
    return PluginManager.of({"appkey": appkey, "sqlite": sqlite, "postgres": postgres, "http": http})

def opened():
    return Runtime.open(Config.load(None, environ={}, arguments=settings), plugins=plugins())
"""

WORKER = (
    HEAD
    + """
connection_id = sys.argv[2]

def arm(core, point):
    name, _, delay = point.partition(" ")
    facet = core.store.connections
    if name == "before-open":
        core.store.connections = Beside(facet, open_refresh=killing(facet.open_refresh, "before"))
    elif name == "after-open":
        core.store.connections = Beside(facet, open_refresh=killing(facet.open_refresh, "after"))
    elif name == "after-answer":
        core.transport = Beside(core.transport, send=killing(core.transport.send, "after"))
    elif name == "in-commit":
        core.store.connections = Beside(facet, close_refresh=killing(facet.close_refresh, "during", float(delay)))
    elif name == "after-commit":
        core.store.connections = Beside(facet, close_refresh=killing(facet.close_refresh, "after"))
    else:
        assert name == "after-request", name  # whoever watches the provider kills

async def main():
    async with opened() as runtime:
        loop = asyncio.get_running_loop()
        if sys.argv[3:] == ["ahead"]:
            say("ready")
            while await loop.run_in_executor(None, sys.stdin.readline):
                say(json.dumps(await runtime.run_due("refresh.ahead", 1000)))
            return
        if len(sys.argv) > 3:
            arm(runtime._core, sys.argv[3])
            say("armed")
            await runtime.refresh(connection_id)
        await runtime.execute(connection_id, "me")
        say("ready")
        while await loop.run_in_executor(None, sys.stdin.readline):
            calls = (runtime.execute(connection_id, "me") for _ in range(4))
            done = await asyncio.gather(*calls, return_exceptions=True)
            say(json.dumps([getattr(result, "status", repr(result)) for result in done]))

asyncio.run(main())
"""
)


def declared(app: Any) -> dict[str, Any]:
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
async def worker(app: Any, connection_id: str, *more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    async with started(WORKER, declared(app), connection_id, *more) as process:
        yield process


@asynccontextmanager
async def started(script: str, settings: dict[str, Any], *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that runs ``script`` with the settings and arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, json.dumps(settings), *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
