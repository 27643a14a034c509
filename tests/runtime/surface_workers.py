"""Processes of their own that receive a command, and that die while they hold it where they are told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import asdict

from .refresh_workers import HEAD, declared, started

if TYPE_CHECKING:
    import asyncio

WORKER = (
    HEAD
    + """
from go_services_core import HttpResponse, InboundRequest
from go_services_core.errors import ServicesError
from go_services_core.handled import Handled
from go_services_store_sql.statement import Statement

mode = sys.argv[2]
head, body = json.loads(sys.argv[3])
request = InboundRequest("POST", "/surfaces/command/sandbox", tuple(map(tuple, head)), body.encode())
EFFECT = Statement("INSERT INTO effects (id) VALUES (:id)")

async def answer(request, context):
    say("running")
    if mode == "hold":
        await asyncio.sleep(3600)
    await asyncio.sleep(0.3)
    def work():
        yield from EFFECT(id=str(os.getpid()))
    return HttpResponse(200, (("X-By", str(os.getpid())),), b"done"), Handled(work=work)

async def main():
    async with opened() as runtime:
        await runtime.on_request("command", "sandbox", answer)
        say("ready")
        while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            try:
                response = await runtime.receive("command", "sandbox", request)
                say(json.dumps([response.status, response.header("X-By")]))
            except ServicesError as error:
                say(json.dumps([error.status, error.code]))

asyncio.run(main())
"""
)


@asynccontextmanager
async def receiving(app: Any, request: Any, mode: str = "work") -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that receives ``request`` for each line that is written to it."""
    given = json.dumps([request.headers, request.body.decode()])
    scheme = asdict(app.sandbox.spec().webhook)
    provider = declared(app)["providers.sandbox"]
    settings = declared(app) | {
        "worker.lease": 2.0,
        "providers.sandbox": provider
        | {
            "webhook_secrets": [app.sandbox.webhook_secret.reveal()],
            "webhook": {"scheme": "hmac", **{name: value for name, value in scheme.items() if value is not None}},
        },
    }
    async with started(WORKER, settings, mode, given) as process:
        yield process
