"""A proxy that understands HTTP and spoils answers: what networks, proxies and broken servers do to them.

Each request reaches the server behind it and is carried out, so that only its answer is lost::

    async with fault_proxy("127.0.0.1", sandbox_port) as proxy:
        proxy.fault = FAULTS["cut inside the body"]
        ...                                              # requests to proxy.url
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from attrs import field, frozen

from .rawserver import RawServer, raw_server

ELSEWHERE: Final = "http://elsewhere.example"
"""Where the redirects to another host lead."""


@frozen
class Exchanged:
    """What a fault has at hand: a request, and the answer that the server gave to it."""

    request: bytes
    head: bytes
    """Status line and headers, with the empty line."""
    body: bytes

    @property
    def target(self) -> bytes:
        return self.request.split(b" ", 2)[1]

    def with_headers(self, *lines: bytes, body: bytes | None = None, length: int | None = None) -> bytes:
        """The answer with further header lines, and its length stated anew."""
        body = self.body if body is None else body
        first, *rest = self.head[:-4].split(b"\r\n")
        kept = [line for line in rest if not line.lower().startswith((b"content-length:", b"connection:"))]
        stated = b"Content-Length: %d" % (len(body) if length is None else length)
        return b"\r\n".join([first, *kept, *lines, stated, b"", b""]) + body


Spoil: TypeAlias = Callable[[Exchanged, asyncio.StreamWriter], Awaitable[None]]
"""Writes what is left of the answer; the connection stays open if it does not close it."""


@frozen
class Fault:
    """One way in which an answer goes wrong."""

    name: str
    spoil: Spoil = field(repr=False)


class FaultProxy:
    """Passes requests on and spoils their answers by its ``fault``; None passes them on as they are."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.fault: Fault | None = None
        self.server = RawServer()
        """Where it listens."""

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return self.server.url("")

    @property
    def requests(self) -> list[bytes]:
        """Every request that arrived, head and body."""
        return self.server.requests

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        exchanged = await self._exchanged(request)
        if self.fault is None:
            writer.write(exchanged.with_headers())
        else:
            await self.fault.spoil(exchanged, writer)
        await writer.drain()

    async def _exchanged(self, request: bytes) -> Exchanged:
        reader, writer = await asyncio.open_connection(*self._target)
        try:
            first, rest = request.split(b"\r\n", 1)
            writer.write(first + b"\r\nConnection: close\r\n" + rest)
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return Exchanged(request, head + b"\r\n\r\n", body)


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """A proxy to the HTTP server at ``host:port``, on a free port of 127.0.0.1."""
    made = FaultProxy(host, port)
    async with raw_server(made._answer) as made.server:
        yield made


# --- the faults -------------------------------------------------------------------------------------------------------


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _then(share: Callable[[Exchanged], bytes], end: Callable[[asyncio.StreamWriter], object] | None) -> Spoil:
    """Write a part of the answer, and then end the connection, or say nothing for ever."""

    async def spoil(exchanged: Exchanged, writer: asyncio.StreamWriter) -> None:
        writer.write(share(exchanged))
        await writer.drain()
        if end is None:
            await _for_ever()
        else:
            end(writer)

    return spoil


def _instead(answer: Callable[[Exchanged], bytes]) -> Spoil:
    """Write another answer, over a connection that stays open."""

    async def spoil(exchanged: Exchanged, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(exchanged))

    return spoil


def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def _half_close(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


def _nothing(exchanged: Exchanged) -> bytes:
    return b""


def _part_of_the_headers(exchanged: Exchanged) -> bytes:
    return exchanged.head[: len(exchanged.head) // 2]


def _headers(exchanged: Exchanged) -> bytes:
    return exchanged.head


def _half(exchanged: Exchanged) -> bytes:
    whole = exchanged.with_headers()
    return whole[: len(whole) - (len(exchanged.body) + 1) // 2]


async def _late(exchanged: Exchanged, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.05)
    writer.write(exchanged.with_headers())


async def _byte_by_byte(exchanged: Exchanged, writer: asyncio.StreamWriter) -> None:
    for byte in exchanged.with_headers():
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)


async def _endless_body(exchanged: Exchanged, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b" " * 4096 + b"\r\n")
        await writer.drain()


async def _endless_hints(exchanged: Exchanged, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


def _compressed(change: Callable[[bytes], bytes]) -> Spoil:
    return _instead(
        lambda exchanged: exchanged.with_headers(b"Content-Encoding: gzip", body=change(gzip.compress(exchanged.body)))
    )


def _after(*interim: bytes) -> Spoil:
    return _instead(lambda exchanged: b"".join(interim) + exchanged.with_headers())


def _chunked(body: Callable[[bytes], bytes]) -> Spoil:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return _then(lambda exchanged: head + body(exchanged.body), _close)


def _redirect(location: Callable[[Exchanged], bytes]) -> Spoil:
    return _instead(
        lambda exchanged: b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location(exchanged)
    )


_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"

FAULTS: Final[Mapping[str, Fault]] = {
    name: Fault(name, spoil)
    for name, spoil in (
        ("delay", _late),
        ("no answer", _then(_nothing, None)),
        ("cut before the headers", _then(_nothing, _close)),
        ("cut inside the headers", _then(_part_of_the_headers, _close)),
        ("cut after the headers", _then(_headers, _close)),
        ("cut inside the body", _then(_half, _close)),
        ("reset before the headers", _then(_nothing, _reset)),
        ("reset inside the body", _then(_half, _reset)),
        ("half-close inside the headers", _then(_part_of_the_headers, _half_close)),
        ("half-close inside the body", _then(_half, _half_close)),
        ("silence inside the headers", _then(_part_of_the_headers, None)),
        ("silence inside the body", _then(_half, None)),
        ("one byte a second", _byte_by_byte),
        ("endless body", _endless_body),
        ("truncated gzip", _compressed(lambda packed: packed[:-9])),
        ("corrupt gzip", _compressed(lambda packed: packed[:12] + bytes(8) + packed[20:])),
        ("two codings", _instead(lambda exchanged: exchanged.with_headers(b"Content-Encoding: gzip, gzip"))),
        ("100 first", _after(_CONTINUE)),
        ("103 first", _after(_HINTS)),
        ("many 1xx first", _after(*(_CONTINUE, _HINTS) * 50)),
        ("endless 1xx", _endless_hints),
        ("chunk size that is no number", _chunked(lambda body: b"zz\r\n" + body + b"\r\n0\r\n\r\n")),
        ("chunk longer than its size", _chunked(lambda body: b"2\r\n" + body + b"\r\n0\r\n\r\n")),
        ("last chunk missing", _chunked(lambda body: b"%x\r\n%s\r\n" % (len(body), body))),
        ("Content-Length too short", _instead(lambda it: it.with_headers(length=len(it.body) // 2))),
        ("Content-Length too long", _then(lambda it: it.with_headers(length=len(it.body) + 10), _close)),
        ("Content-Length too long, then silence", _then(lambda it: it.with_headers(length=len(it.body) + 10), None)),
        ("two Content-Lengths", _instead(lambda it: it.with_headers(b"Content-Length: 1"))),
        ("headers too large", _instead(lambda it: it.with_headers(b"X-Large: " + b"x" * 100_000))),
        ("no HTTP", _then(lambda _: b"SSH-2.0-OpenSSH_9.7\r\n", _close)),
        ("redirect to itself", _redirect(lambda exchanged: exchanged.target)),
        ("redirect to another host", _redirect(lambda exchanged: ELSEWHERE.encode() + exchanged.target)),
    )
}
"""Every fault by its name."""
