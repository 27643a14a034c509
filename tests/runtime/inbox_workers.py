"""Processes of their own that take deliveries in, pass them on and replay them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .refresh_workers import HEAD, declared, started

WEBHOOK = {
    "scheme": "hmac",
    "signature_header": "webhook-signature",
    "encoding": "base64",
    "prefix": "v1,",
    "signed": ["id", "timestamp", "body"],
    "id_header": "webhook-id",
    "timestamp_header": "webhook-timestamp",
    "event_field": "type",
}

WORKER = (
    HEAD
    + """
from aiohttp import web
from go_services_core.errors import StoreError
from go_services_core.http import InboundRequest

task = sys.argv[2]

async def begin():
    say("ready")
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

async def serve(runtime):
    async def receive(request):
        inbound = InboundRequest(request.method, request.raw_path, tuple(request.headers.items()), await request.read())
        try:
            await runtime.accept_webhook("sandbox", inbound)
        except StoreError:
            return web.Response(status=503, headers={"Retry-After": "1"})
        return web.Response(status=204)
    application = web.Application()
    application.router.add_post("/", receive)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say(str(site._server.sockets[0].getsockname()[1]))
    await asyncio.Event().wait()

async def pass_on(runtime):
    await begin()
    while True:
        if not await runtime.run_due("inbox", 7):
            await asyncio.sleep(0.01)

async def replay(runtime):
    await begin()
    done = await runtime.replay()
    say(f"{done.handlers} {done.deliveries}")

async def main():
    async with opened() as runtime:
        await globals()[task](runtime)

asyncio.run(main())
"""
)


@asynccontextmanager
async def worker(app: Any, task: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that does ``task``: serve, pass_on or replay."""
    settings = declared(app)
    settings["providers.sandbox"] |= {
        "webhook": WEBHOOK,
        "webhook_secrets": [app.sandbox.webhook_secret.reveal()],
    }
    settings["worker.lease"] = 0.3
    async with started(WORKER, settings, task) as process:
        yield process
