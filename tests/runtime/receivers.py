"""A customer's server: keeps what it gets, and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from attrs import Factory, define

from go_services_core.http import InboundRequest


@define
class Receiver:
    """Every request it got, and the answers that it gives in turn; the last one is given from then on."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = Factory(lambda: [(200, {})])
    got: list[InboundRequest] = Factory(list)
    body: bytes = b""
    hold: asyncio.Event | None = None
    """What it waits for before it answers."""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").partition("/")[0]

    def ids(self) -> list[str | None]:
        return [one.header("webhook-id") for one in self.got]

    async def handle(self, request: web.Request) -> web.Response:
        pairs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
        self.got.append(InboundRequest(request.method, request.raw_path, pairs, await request.read()))
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(status=status, headers=headers, body=self.body)


@asynccontextmanager
async def receiver(**options: Any) -> AsyncIterator[Receiver]:
    """A server on loopback."""
    made = Receiver(**options)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{port}/hooks"
    try:
        yield made
    finally:
        if made.hold is not None:
            made.hold.set()
        await runner.cleanup()
