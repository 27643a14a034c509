"""A transaction pooler in the manner of PgBouncer: each transaction may run on another server connection.

It speaks protocol 3.0 (https://www.postgresql.org/docs/current/protocol-message-formats.html), passes messages on
unread, gives a client a server connection with its first message and takes it back when the server is idle again, after
``DISCARD ALL``. Like PgBouncer it refuses start-up parameters that it could not keep.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, field

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
KNOWN = {"user", "database", "application_name", "client_encoding", "DateStyle", "TimeZone"}
TOLD = {
    "server_version": "18.0",
    "client_encoding": "UTF8",
    "server_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "TimeZone": "Etc/UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
}
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The type of the next message, and all of its bytes."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


async def read_startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    body = await reader.readexactly(size - 4)
    return struct.unpack("!i", body[:4])[0], body[4:]


@define(eq=False)
class Pooler:
    """Serves one database with ``size`` server connections, the longest unused one first."""

    host: str
    server_port: int
    database: str
    size: int = 3
    port: int = 0
    used: list[Counter[int]] = field(factory=list)
    """For each client: on which server connection how many of its transactions ran."""
    refused: list[str] = field(factory=list)
    _idle: deque[tuple[int, Pair]] = field(factory=deque)
    _free: asyncio.Condition = field(factory=asyncio.Condition)
    _clients: set[asyncio.Task[None]] = field(factory=set)

    async def connect(self) -> Pair:
        """A server connection that is ready."""
        reader, writer = await asyncio.open_connection(self.host, self.server_port)
        pairs = f"user\0postgres\0database\0{self.database}\0client_encoding\0UTF8\0\0".encode()
        writer.write(struct.pack("!ii", len(pairs) + 8, 196608) + pairs)
        while (await read_message(reader))[0] != b"Z":
            pass
        return reader, writer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        try:
            if await self._greet(reader, writer):
                await self._transactions(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        code, body = await read_startup(reader)
        while code in (SSL_REQUEST, GSS_REQUEST):
            writer.write(b"N")
            code, body = await read_startup(reader)
        if code == CANCEL_REQUEST:
            return False
        names = body.split(b"\0")[:-2:2]
        if unknown := sorted({name.decode() for name in names} - KNOWN):
            self.refused += unknown
            text = f"SFATAL\0C08P01\0Munsupported startup parameter: {unknown[0]}\0\0".encode()
            writer.write(message(b"E", text))
            await writer.drain()
            return False
        writer.write(message(b"R", struct.pack("!i", 0)))
        for name, value in TOLD.items():
            writer.write(message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(message(b"K", os.urandom(8)) + message(b"Z", b"I"))
        return True

    async def _transactions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        used: Counter[int] = Counter()
        self.used.append(used)
        while True:
            first = await read_message(reader)
            if first[0] == b"X":
                return
            async with self._free:
                await self._free.wait_for(lambda: bool(self._idle))
                number, server = self._idle.popleft()
            used[number] += 1
            clean = False
            try:
                await self._transaction((reader, writer), server, first)
                await self._reset(server)
                clean = True
            finally:
                if not clean:  # the client went away in the middle, and its transaction goes with the connection
                    server[1].transport.abort()
                    server = await self.connect()
                async with self._free:
                    self._idle.append((number, server))
                    self._free.notify()

    async def _transaction(self, client: Pair, server: Pair, first: tuple[bytes, bytes]) -> None:
        kind, data = first
        while True:
            server[1].write(data)
            if kind in (b"Q", b"S"):  # the client now waits for ReadyForQuery
                answer = b""
                while answer != b"Z":
                    answer, data = await read_message(server[0])
                    client[1].write(data)
                await client[1].drain()
                if data[5:] == b"I":
                    return
            kind, data = await read_message(client[0])

    async def _reset(self, server: Pair) -> None:
        server[1].write(message(b"Q", b"DISCARD ALL\0"))
        while (await read_message(server[0]))[0] != b"Z":
            pass


@asynccontextmanager
async def transaction_pooler(host: str, port: int, database: str) -> AsyncIterator[Pooler]:
    pooler = Pooler(host, port, database)
    pooler._idle.extend([(number, await pooler.connect()) for number in range(pooler.size)])
    listening = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    pooler.port = listening.sockets[0].getsockname()[1]
    try:
        yield pooler
    finally:
        listening.close()
        for task in list(pooler._clients):
            task.cancel()
        await asyncio.gather(*pooler._clients, return_exceptions=True)
        for _, (_, writer) in pooler._idle:
            writer.close()
            await writer.wait_closed()
        await listening.wait_closed()
