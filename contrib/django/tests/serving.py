"""Real servers: a WSGI one in threads, an ASGI one in the loop of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server


class Handler(WSGIRequestHandler):
    """Says nothing, and one request a connection, so that closing waits for nobody."""

    def log(self, *_: Any) -> None: ...


@contextmanager
def serving_wsgi(app: Any, listening: Any) -> Iterator[None]:
    """``app`` on a socket until the end of the block."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler, fd=listening.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Server(uvicorn.Server):
    """Leaves the signals to the test run."""

    @contextmanager
    def capture_signals(self) -> Any:
        yield


@asynccontextmanager
async def serving_asgi(app: Any, listening: Any) -> AsyncIterator[None]:
    """``app`` on a socket until the end of the block."""
    server = Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="off", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with asyncio.timeout(20):
            while not server.started and not task.done():
                await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        await task
