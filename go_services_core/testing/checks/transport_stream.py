"""Checks of transports that give an answer while it comes."""

from __future__ import annotations

import asyncio
import gzip

from ...errors import BodyTooLarge, EgressDenied, RequestTimeout, TransportError
from ...http import HttpRequest
from ...protocols import StreamTransport
from ..kit import check
from ..rawserver import http_answer, raw_server
from .transport import failure

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-a: 1\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _first_then_silence(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + _chunk(b"first"))
    await asyncio.Event().wait()


async def _enter(transport: StreamTransport, request: HttpRequest, provider_id: str = "kit") -> None:
    async with transport.stream(request, provider_id=provider_id):
        pass


@check("TRN-101", "transport", needs=("stream",))
async def streams_pieces_as_they_come(transport: StreamTransport) -> None:
    """A piece is given before the next one was sent; status and headers are there before any."""
    go_on = asyncio.Event()

    async def speak(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        await go_on.wait()
        go_on.clear()
        writer.write(_chunk(b"first"))
        await go_on.wait()
        writer.write(_chunk(b"second") + b"0\r\n\r\n")

    async with (
        asyncio.timeout(10),
        raw_server(speak) as server,
        transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer,
    ):
        assert answer.status == 200
        assert answer.header("x-a") == "1"
        go_on.set()
        assert await anext(answer.pieces) == b"first"
        go_on.set()
        assert b"".join([piece async for piece in answer]) == b"second"


@check("TRN-102", "transport", needs=("stream",))
async def streams_at_the_takers_pace(transport: StreamTransport) -> None:
    """A taker who takes nothing more holds the sender back; nothing of the rest is gathered in memory."""
    written = 0

    async def pour(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.transport.set_write_buffer_limits(0)
        writer.write(_HEAD)
        while True:
            writer.write(_chunk(b"x" * 65536))
            await writer.drain()
            written += 65536

    async with raw_server(pour) as server:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            await anext(answer.pieces)
            before = -1
            while written != before:
                assert written < 64 * 2**20, "the sender is not held back"
                before = written
                await asyncio.sleep(0.1)
        await asyncio.wait_for(server.hung_up.wait(), 10)


@check("TRN-103", "transport", needs=("stream",))
async def streams_within_limits(transport: StreamTransport) -> None:
    """Without ``max_body`` a stream has no limit; with it one byte more, counted after decompression, is
    BodyTooLarge."""
    body = bytes(20 * 2**20)
    async with (
        raw_server(http_answer(200, body)) as server,
        transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer,
    ):
        assert sum([len(piece) async for piece in answer]) == len(body)
    packed = http_answer(200, gzip.compress(bytes(2**20)), (("Content-Encoding", "gzip"),))
    async with raw_server(packed) as server:
        for limit in (2**20, 2**20 - 1):
            request = HttpRequest("GET", server.url(), max_body=limit)
            async with transport.stream(request, provider_id="kit") as answer:
                taking = answer.read(2**21)
                if limit == 2**20:
                    assert len(await taking) == limit
                else:
                    await failure(BodyTooLarge, taking)


@check("TRN-104", "transport", needs=("stream",))
async def streams_without_a_total_time(transport: StreamTransport) -> None:
    """``timeout`` counts until the headers and between pieces; then it is RequestTimeout with ``sent``."""

    async def drip(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        for _ in range(4):
            await asyncio.sleep(0.2)
            writer.write(_chunk(b"x"))
        await asyncio.Event().wait()

    async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with raw_server(drip) as server:
        request = HttpRequest("GET", server.url(), timeout=0.6)
        async with transport.stream(request, provider_id="kit") as answer:
            for _ in range(4):
                await anext(answer.pieces)
            error = await failure(RequestTimeout, anext(answer.pieces))
            assert error.sent
    async with raw_server(hang) as server:
        error = await failure(RequestTimeout, _enter(transport, HttpRequest("GET", server.url(), timeout=0.2)))
        assert error.sent


@check("TRN-105", "transport", needs=("stream",))
async def closes_a_stream_that_is_left(transport: StreamTransport) -> None:
    """Leaving the context before the end, an error of the caller's own, and cancellation hang up."""

    async def take(leave: Exception | None) -> None:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            await anext(answer.pieces)
            if leave is not None:
                raise leave

    for leave in (None, LookupError("the caller's own")):
        async with raw_server(_first_then_silence) as server:
            if leave is None:
                await take(None)
            else:
                assert await failure(LookupError, take(leave)) is leave
            await asyncio.wait_for(server.hung_up.wait(), 10)
    began = asyncio.Event()

    async def wait() -> None:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            async for _ in answer:
                began.set()

    async with raw_server(_first_then_silence) as server:
        task = asyncio.ensure_future(wait())
        await asyncio.wait_for(began.wait(), 10)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "the cancellation was swallowed"
        await asyncio.wait_for(server.hung_up.wait(), 10)


@check("TRN-106", "transport", needs=("stream",))
async def types_a_cut_stream(transport: StreamTransport) -> None:
    """An answer that ends before its end is a TransportError with ``sent``, after the pieces that came."""

    async def cut(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _chunk(b"first"))
        await writer.drain()
        await go_on.wait()
        writer.close()

    go_on = asyncio.Event()
    async with (
        raw_server(cut) as server,
        transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer,
    ):
        assert await anext(answer.pieces) == b"first"
        go_on.set()
        error = await failure(TransportError, anext(answer.pieces))
        assert error.sent


@check("TRN-107", "transport", needs=("stream",))
async def guards_streams(transport: StreamTransport) -> None:
    """The guard holds for streams, also where another provider's connection to the host is open."""
    async with raw_server() as server:
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        for url in (server.url(), server.url(scheme="https"), "https://[fec0::1]/", "https://2130706433/"):
            error = await failure(EgressDenied, _enter(transport, HttpRequest("GET", url), "other"))
            assert not error.sent
        assert len(server.requests) == 1
