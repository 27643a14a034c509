"""Answers while they come: in pieces, as fast as they are taken, guarded and limited like any other."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from go_services_core.errors import BadInput, BodyTooLarge, EgressDenied, RequestTimeout, TransportError
from go_services_core.http import HttpRequest
from go_services_core.protocols import StreamTransport
from go_services_core.testing.rawserver import http_answer, raw_server
from go_services_transport_http.transport import HttpTransport

from .certificates import fingerprint, fingerprinting, identity, server_context
from .names import Names

Make = Callable[..., HttpTransport]
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_pieces_are_given_when_they_come_and_the_connection_is_kept(make: Make) -> None:
    go_on = asyncio.Event()

    async def speak(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"first"))
        await go_on.wait()
        writer.write(chunk(b"second") + b"0\r\n\r\n")

    transport = make()
    assert isinstance(transport, StreamTransport)
    async with raw_server(speak, http_answer(200, b"next")) as server:
        request = HttpRequest("GET", server.url("/events"), (("Accept", "text/event-stream"),))
        async with transport.stream(request, provider_id="kit") as answer:
            assert (answer.status, answer.url, answer.content_type) == (200, request.url, "text/event-stream")
            assert answer.header("content-type") == "Text/Event-Stream; charset=utf-8"
            assert await anext(answer.pieces) == b"first"
            go_on.set()
            assert [piece async for piece in answer] == [b"second"]
        assert (await transport.send(HttpRequest("GET", server.url()), provider_id="kit")).body == b"next"
        assert server.connections == 1
        assert server.lines(0) == [
            "GET /events HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Accept: text/event-stream",
        ]
    await transport.aclose()


async def test_status_that_is_an_error_is_an_answer_and_read_up_to_a_limit(make: Make) -> None:
    transport = make()
    async with raw_server(http_answer(503, b"x" * 1000)) as server:
        request = HttpRequest("GET", server.url())
        async with transport.stream(request, provider_id="kit") as answer:
            assert answer.status == 503
            assert await answer.read(1000) == b"x" * 1000
        async with transport.stream(request, provider_id="kit") as answer:
            with pytest.raises(BodyTooLarge, match="999 bytes"):
                await answer.read(999)
    await transport.aclose()


async def test_slow_taker_holds_the_sender_back(make: Make) -> None:
    written = 0

    async def pour(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.transport.set_write_buffer_limits(0)
        writer.write(HEAD)
        while True:
            writer.write(chunk(b"x" * 65536))
            await writer.drain()
            written += 65536

    transport = make()
    async with raw_server(pour) as server:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            await anext(answer.pieces)
            at = -1
            while written != at:  # until the socket's buffers are full
                at = written
                await asyncio.sleep(0.1)
            assert written < 32 * 2**20
            taken = 0
            while taken < at + 2**20:
                taken += len(await anext(answer.pieces))
            assert written > at
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_large_answer_has_no_limit_unless_the_request_has_one(make: Make) -> None:
    transport = make(max_body=1000)
    async with raw_server(http_answer(200, b"x" * 5_000_000)) as server:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            assert sum([len(piece) async for piece in answer]) == 5_000_000
        request = HttpRequest("GET", server.url(), max_body=400_000)
        async with transport.stream(request, provider_id="kit") as answer:
            with pytest.raises(BodyTooLarge, match="400000 bytes"):
                async for _ in answer:
                    pass
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_compressed_pieces_come_decompressed_while_the_sender_goes_on(make: Make) -> None:
    packed = gzip.compress(b"first" * 100) + gzip.compress(b"second")
    cut = len(gzip.compress(b"first" * 100))
    go_on = asyncio.Event()

    async def speak(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        writer.write(head + packed[:cut])
        await go_on.wait()
        writer.write(packed[cut:])

    transport = make()
    async with (
        raw_server(speak) as server,
        transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer,
    ):
        assert await anext(answer.pieces) == b"first" * 100
        go_on.set()
        assert await answer.read(100) == b"second"
    await transport.aclose()


async def test_time_counts_anew_with_each_piece(make: Make) -> None:
    """The pieces take longer than the timeout together, and each less."""

    async def drip(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for number in range(6):
            await asyncio.sleep(0.1)
            writer.write(chunk(b"%d" % number))
        await asyncio.Event().wait()

    transport = make()
    async with raw_server(drip) as server:
        request = HttpRequest("GET", server.url(), timeout=0.4)
        async with transport.stream(request, provider_id="kit") as answer:
            for number in range(6):
                assert await anext(answer.pieces) == b"%d" % number
            with pytest.raises(RequestTimeout, match=r"nothing came for 0\.4 s") as caught:
                await anext(answer.pieces)
            assert caught.value.sent
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_time_counts_until_the_headers_come(make: Make) -> None:
    async def drip(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:  # one byte again and again: each resets the time between two of them, not that of the headers
            writer.write(b"X")
            await asyncio.sleep(0.05)

    transport = make()
    async with raw_server(drip) as server:
        with pytest.raises(RequestTimeout) as caught:
            async with transport.stream(HttpRequest("GET", server.url(), timeout=0.3), provider_id="kit"):
                pass
        assert caught.value.sent
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_answer_that_is_cut_is_an_error_after_the_pieces_before(make: Make) -> None:
    async def cut(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"first"))
        await writer.drain()
        writer.close()

    transport = make()
    async with (
        raw_server(cut) as server,
        transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer,
    ):
        assert await anext(answer.pieces) == b"first"
        with pytest.raises(TransportError) as caught:
            await anext(answer.pieces)
        assert caught.value.sent
    await transport.aclose()


async def _endless(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + chunk(b"first"))
    await asyncio.Event().wait()


async def test_leaving_before_the_end_closes_the_connection(make: Make) -> None:
    transport = make()
    async with raw_server(_endless) as server:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            assert await anext(answer.pieces) == b"first"
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_callers_own_error_stays_what_it_is_and_closes_the_connection(make: Make) -> None:
    transport = make()
    async with raw_server(_endless) as server:
        with pytest.raises(ValueError, match="mine"):
            async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit"):
                raise ValueError("mine")
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_cancellation_closes_the_connection(make: Make) -> None:
    transport = make()

    async def take() -> None:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            async for _ in answer:
                began.set()

    began = asyncio.Event()
    async with raw_server(_endless) as server:
        task = asyncio.ensure_future(take())
        await asyncio.wait_for(began.wait(), 10)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_closing_the_transport_ends_a_stream_with_an_error(make: Make) -> None:
    transport = make()
    async with raw_server(_endless) as server:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            assert await anext(answer.pieces) == b"first"
            await transport.aclose(grace=0)
            with pytest.raises(TransportError):
                await anext(answer.pieces)
        with pytest.raises(TransportError, match="closed") as caught:
            async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit"):
                pass
        assert caught.value.sent is False


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "[::1]", "[fec0::1]", "169.254.169.254", "2130706433", "h.", "u@h", "evil.example"],
)
async def test_guard_holds_for_streams(make: Make, host: str) -> None:
    names = Names(evil_example=[["93.184.216.34", "10.0.0.1"]])
    transport = make(resolver=lambda: names)
    with pytest.raises(EgressDenied) as caught:
        async with transport.stream(HttpRequest("GET", f"https://{host}/"), provider_id="other"):
            pass
    assert caught.value.sent is False
    await transport.aclose()


async def test_what_cannot_be_sent_is_refused_for_streams(make: Make) -> None:
    transport = make()
    async with raw_server() as server:
        for request in (
            HttpRequest("GET", server.url("/a b")),
            HttpRequest("GET", server.url(), (("X", "a\r\nb"),)),
        ):
            with pytest.raises(BadInput):
                async with transport.stream(request, provider_id="kit"):
                    pass
        assert not server.connections
    await transport.aclose()


async def test_stream_presents_its_client_certificate(make: Make, tmp_path: Path) -> None:
    authority, clients = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = clients.issue_cert("one@acme.example")
    transport = make(allow={"kit": ("localhost:*",)}, ca_file=tmp_path / "ca.pem")
    context: ssl.SSLContext = server_context(authority, clients)
    async with fingerprinting(context) as server:
        url = server.url(scheme="https", host="localhost")
        request = HttpRequest("GET", url, client_certificate=identity(issued))
        async with transport.stream(request, provider_id="kit") as answer:
            assert (await answer.read(1000)).decode() == fingerprint(issued)
        with pytest.raises(TransportError):
            async with transport.stream(HttpRequest("GET", url), provider_id="kit"):
                pass
    await transport.aclose()
