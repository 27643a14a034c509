"""An HTTP proxy for tests: CONNECT (RFC 9110 §9.3.6) and absolute-form (RFC 9112 §3.2.2), with names of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class HttpProxy:
    """Passes on to 127.0.0.1, whatever the name; ``ports`` says which port stands behind a ``host:port``."""

    def __init__(self) -> None:
        self.port = 0
        self.ports: Mapping[str, int] = {}
        self.refuse: int | None = None
        """Status that it answers everything with."""
        self.wants: str | None = None
        """Value of Proxy-Authorization without which it answers 407."""
        self.heads: list[list[str]] = []
        """Request line and header lines of every request that it read itself."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def header(self, name: str, index: int = -1) -> str | None:
        for line in self.heads[index][1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode("latin-1").rstrip("\r\n").split("\r\n"))
        method, target, _ = self.heads[-1][0].split()
        status = 407 if self.wants is not None and self.header("proxy-authorization") != self.wants else self.refuse
        if status is not None:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 8\r\n\r\nhunter2!".encode())
            await writer.drain()
            return
        place = target if method == "CONNECT" else urlsplit(target).netloc
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self.ports[place])
        except (OSError, KeyError):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Established\r\n\r\n")
            else:
                parts = urlsplit(target)
                first = f"{method} {parts.path}?{parts.query} HTTP/1.1"
                own = [line for line in self.heads[-1][1:] if not line.startswith("Proxy-")]
                upstream.write("\r\n".join([first, *own, "Connection: close", "", ""]).encode())
            await asyncio.gather(_pump(reader, upstream), _pump(answers, writer))
        finally:
            upstream.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def http_proxy(context: ssl.SSLContext | None = None) -> AsyncIterator[HttpProxy]:
    made = HttpProxy()
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
