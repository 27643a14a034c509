"""A tiny HTTP/1.1 server over asyncio that keeps the bytes as they came, for tests of what is really on the wire."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

Answer: TypeAlias = bytes | Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Bytes to write, or a function of the request's bytes and the writer for what bytes cannot say (wait, cut, stream)."""

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What to do with a connection instead of reading requests: say something first, or never read."""


def http_answer(status: int = 200, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The bytes of one answer, with its ``Content-Length``."""
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers)]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class RawServer:
    """Answers each request with the next of ``answers``; the last one repeats."""

    def __init__(self, *answers: Answer, talk: Talk | None = None) -> None:
        self.answers = answers or (http_answer(200, b"{}"),)
        self.talk = talk or self._answer_requests
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []
        """Each request's bytes, head and body, as they arrived; a chunked body with its chunk lines."""
        self.arrived = asyncio.Event()
        """Set when a request has been read completely."""
        self.hung_up = asyncio.Event()
        """Set when a client has closed its connection."""
        self._handlers: set[asyncio.Task[None]] = set()

    def url(self, target: str = "/", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        """The URL of ``target`` on this server."""
        return f"{scheme}://{host}:{self.port}{target}"

    def lines(self, index: int = -1) -> list[str]:
        """Request line and header lines of one request."""
        return self.requests[index].partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    def body(self, index: int = -1) -> bytes:
        """The body of one request, framing included."""
        return self.requests[index].partition(b"\r\n\r\n")[2]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        self.connections += 1
        try:
            await self.talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        except asyncio.CancelledError:
            # The server shuts down. Streams log a handler that ends as cancelled; what is unsent must not hold it up.
            writer.transport.abort()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            request = await _read_request(reader)
            self.requests.append(request)
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
            self.arrived.set()
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                watch = asyncio.ensure_future(self._watch(reader))
                try:
                    await answer(request, writer)
                finally:
                    watch.cancel()
                    await asyncio.wait([watch])  # or its reading would still be in the way of the next request

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """Notice a client that hangs up while its answer is still being made."""
        with suppress(ConnectionError):
            await reader.read(1)
        self.hung_up.set()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    fields = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
    headers = {name: value.strip() for name, _, value in fields}
    if headers.get(b"transfer-encoding") == b"chunked":
        body, size = b"", -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16)
            body += line + await reader.readexactly(size + 2)
        return head + body
    return head + await reader.readexactly(int(headers.get(b"content-length", b"0")))


@asynccontextmanager
async def raw_server(
    *answers: Answer, talk: Talk | None = None, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve ``answers``, or ``talk``, on a free port; ``context`` makes it TLS."""
    made = RawServer(*answers, talk=talk)
    server = await asyncio.start_server(made._serve, host, 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(made._handlers):
            task.cancel()
        await asyncio.gather(*made._handlers, return_exceptions=True)
        await server.wait_closed()
