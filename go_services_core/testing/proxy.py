"""A TCP proxy that does what networks do: delay, cut, reset, half-close, truncate, refuse.

::

    async with tcp_proxy("127.0.0.1", 5432) as proxy:
        proxy.delay = 0.2                                    # each chunk, in each direction
        proxy.watch = lambda way, data: b"COMMIT" in data    # cut the connection instead of passing this chunk on
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeAlias

Way: TypeAlias = Literal["up", "down"]
"""``up`` is from the client to the server."""

Watch: TypeAlias = Callable[[int, Way, bytes], bool]
"""Sees each chunk before it is passed on, with the number of its connection; True resets that one instead."""


class _Link:
    """One connection through the proxy, and what was passed on over it."""

    def __init__(self, number: int, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.number = number
        self._ends: dict[Way, asyncio.StreamWriter] = {"up": server, "down": client}
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self.pumps: list[asyncio.Task[None]] = []

    async def write(self, way: Way, data: bytes) -> None:
        self.passed[way] += len(data)
        self._ends[way].write(data)
        await self._ends[way].drain()

    def finish(self, way: Way) -> None:
        """Say in one direction that no more comes."""
        with suppress(OSError):
            self._ends[way].write_eof()

    def cut(self, *, reset: bool) -> None:
        """End both sides: with RST, or as a process that closes its socket."""
        for writer in self._ends.values():
            connection = writer.get_extra_info("socket")
            if reset and connection is not None:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort() if reset else writer.close()
        for pump in self.pumps:
            pump.cancel()


class TcpProxy:
    """Passes connections on to ``host:port``. Everything may be changed while connections are open."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        """Where it listens, on 127.0.0.1."""
        self.delay = 0.0
        """Seconds that each chunk waits, in each direction."""
        self.refuse = False
        """Close new connections at once."""
        self.limits: dict[Way, int] = {}
        """Bytes that each connection passes on in a direction; then both sides are closed in the middle."""
        self.watch: Watch | None = None
        self.connections = 0
        """How many were taken, counting from the start."""
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()

    def cut(self, *, reset: bool = False) -> None:
        """End every open connection."""
        for link in list(self._links):
            link.cut(reset=reset)

    def half_close(self, way: Way) -> None:
        """Tell one side of every open connection that no more comes; the other direction stays open."""
        for link in list(self._links):
            link.finish(way)

    def hold(self) -> None:
        """Pass nothing on, and say nothing: a network that swallows everything."""
        self._open.clear()

    def release(self) -> None:
        """Pass on again, also what came meanwhile."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        self.connections += 1
        number = self.connections
        if self.refuse:
            writer.transport.abort()
            return
        try:
            answers, upstream = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(number, writer, upstream)
        link.pumps = [
            asyncio.ensure_future(self._pump(link, "up", reader)),
            asyncio.ensure_future(self._pump(link, "down", answers)),
        ]
        self._links.add(link)
        try:
            await asyncio.wait(link.pumps)
        finally:
            self._links.discard(link)
            link.cut(reset=False)

    async def _pump(self, link: _Link, way: Way, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                if self.watch is not None and self.watch(link.number, way, data):
                    link.cut(reset=True)
                    return
                limit = self.limits.get(way)
                if limit is not None and link.passed[way] + len(data) >= limit:
                    await link.write(way, data[: max(0, limit - link.passed[way])])
                    link.cut(reset=False)
                    return
                await link.write(way, data)
            link.finish(way)
        except ConnectionError:
            link.cut(reset=True)


@asynccontextmanager
async def tcp_proxy(host: str, port: int) -> AsyncIterator[TcpProxy]:
    """A proxy to ``host:port`` on a free port of 127.0.0.1; in the end every connection is cut."""
    made = TcpProxy(host, port)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.release()
        made.cut()
        await asyncio.gather(*made._serving, return_exceptions=True)
        await server.wait_closed()
