"""A real ASGI server in the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Any

import uvicorn


class Server(uvicorn.Server):
    """Leaves the signals to the test run."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def serving(app: Any, listening: socket.socket, **options: Any) -> AsyncGenerator[None]:
    """``app`` under uvicorn on a socket; the lifespan has run when it yields."""
    server = Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1, **options))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with asyncio.timeout(20):
            while not server.started and not task.done():
                await asyncio.sleep(0.005)
        assert server.started, "the server did not start"
        yield
    finally:
        server.should_exit = True
        await task
