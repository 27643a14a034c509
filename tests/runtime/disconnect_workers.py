"""Processes of their own that disconnect or drain, and that kill themselves where they are told to."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .refresh_workers import declared

WORKER = """
import asyncio, json, os, signal, sys, threading
import go_services_secrets_appkey.plugin as appkey
import go_services_store_postgres.plugin as postgres
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Runtime
from go_services_core.config import Config
from go_services_core.plugins import PluginManager

settings, connection_id, action, point = json.loads(sys.argv[1]), *sys.argv[2:5]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Killing:
    def __init__(self, real, name, when, delay):
        self.real, self.name, self.when, self.delay = real, name, when, delay
    def __getattr__(self, name):
        call = getattr(self.real, name)
        if name != self.name:
            return call
        async def killed(*args, **kwargs):
            if self.when == "before":
                die()
            if self.when == "during":
                threading.Timer(self.delay, die).start()
            await call(*args, **kwargs)
            die()
        return killed

def arm(core):
    when, name, delay = point.split(" ")
    if name == "send":
        core.transport = Killing(core.transport, name, when, float(delay))
    elif name == "settle":
        core.store.queues = Killing(core.store.queues, name, when, float(delay))
    else:
        core.store.connections = Killing(core.store.connections, name, when, float(delay))

async def main():
    plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "postgres": postgres, "http": http})
    async with Runtime.open(Config.load(None, environ={}, arguments=settings), plugins=plugins) as runtime:
        if point:
            arm(runtime._core)
        print("ready", flush=True)
        if action == "disconnect":
            ended = await runtime.disconnect(connection_id)
            print(json.dumps([ended.revoked, ended.pending, ended.overtaken]), flush=True)
        elif action == "revoke":
            print(await runtime.run_due("connections.revoke"), flush=True)
        else:
            try:
                await runtime.refresh(connection_id)
                print("refreshed", flush=True)
            except Exception as refused:
                print(type(refused).__name__, flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def worker(app: Any, connection_id: str, action: str, point: str = "") -> AsyncIterator[Any]:
    """A process that does ``action``; ``point`` is when, which call and after how many seconds it kills itself."""
    settings = declared(app)
    auth = settings["providers.sandbox"]["auth"]
    auth |= {"revocation_url": f"{app.sandbox.url}/revoke", "revocation_scope": "token"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, json.dumps(settings), connection_id, action, point, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
