"""Checks of what transports make of answers: compression, interim answers, leftovers, and the end of the transport."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from contextlib import suppress

from ...errors import BodyTooLarge, EgressDenied, ResponseInvalid, TransportError
from ...http import HttpRequest
from ...protocols import Transport
from ..kit import check
from ..rawserver import http_answer, raw_server
from .transport import failure

_TEXT = b"".join(b"line %d\n" % number for number in range(5000))


def _coded(coding: str, body: bytes) -> bytes:
    return http_answer(200, body, (("Content-Encoding", coding),))


@check("TRN-016", "transport")
async def undoes_compression(transport: Transport) -> None:
    """An answer in gzip or deflate is given decompressed, with its headers as they came; nothing is added to the
    request to ask for it."""
    for coding, packed in (("gzip", gzip.compress(_TEXT)), ("deflate", zlib.compress(_TEXT))):
        async with raw_server(_coded(coding, packed)) as server:
            answer = await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
            assert answer.body == _TEXT, f"{coding} was not undone"
            assert answer.header("content-encoding") == coding
            assert not any(line.lower().startswith("accept-encoding") for line in server.lines())


@check("TRN-017", "transport")
async def refuses_a_bomb(transport: Transport) -> None:
    """``max_body`` counts decompressed bytes: 64 MiB that were sent as 64 KiB are BodyTooLarge."""
    async with raw_server(_coded("gzip", gzip.compress(bytes(2**26)))) as server:
        request = HttpRequest("GET", server.url(), max_body=2**20)
        await failure(BodyTooLarge, transport.send(request, provider_id="kit"))


@check("TRN-018", "transport")
async def types_broken_compression(transport: Transport) -> None:
    """A compressed answer that is corrupt, or cut off although its length is right, is a TransportError with ``sent``;
    codings that are stacked or unknown are ResponseInvalid."""
    packed = gzip.compress(_TEXT)
    for body in (packed[:-9], packed[:100], b"this is not gzip", zlib.compress(_TEXT)):
        async with raw_server(_coded("gzip", body)) as server:
            error = await failure(TransportError, transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
            assert error.sent
    for coding, body in (("gzip, gzip", gzip.compress(packed)), ("x-unknown", b"?")):
        async with raw_server(_coded(coding, body)) as server:
            await failure(ResponseInvalid, transport.send(HttpRequest("GET", server.url()), provider_id="kit"))


@check("TRN-019", "transport")
async def passes_interim_answers(transport: Transport) -> None:
    """Answers of 1xx before the final one are left out, however many come."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    for count in (1, 50):
        async with raw_server(interim * count + http_answer(200, b"final")) as server:
            answer = await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
            assert (answer.status, answer.body) == (200, b"final")


@check("TRN-020", "transport")
async def leaves_no_bytes_to_the_next_request(transport: Transport) -> None:
    """Bytes after an answer, and the rest of one that was given up, are never the answer to another request."""
    forged = http_answer(200, b"forged")
    async with raw_server(http_answer(200, b"first") + forged, http_answer(200, b"second")) as server:
        request = HttpRequest("GET", server.url())
        with suppress(TransportError):  # an answer that is longer than it says may be refused as a whole
            assert (await transport.send(request, provider_id="kit")).body == b"first"
        assert (await transport.send(request, provider_id="kit")).body == b"second"
    async with raw_server(http_answer(200, b"x" * 500_000 + forged), http_answer(200, b"second")) as server:
        request = HttpRequest("GET", server.url(), max_body=1000)
        await failure(BodyTooLarge, transport.send(request, provider_id="kit"))
        assert (await transport.send(request, provider_id="kit")).body == b"second"


@check("TRN-021", "transport")
async def refuses_disguised_hosts(transport: Transport) -> None:
    """User information, a trailing dot, and addresses in decimal, octal, hexadecimal, IPv4-mapped, NAT64 or site-local
    form are EgressDenied for a provider without an allowance."""
    for host in (
        "user:hunter2@127.0.0.1",
        "127.0.0.1.",
        "localhost.",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",  # noqa: S104
    ):
        error = await failure(EgressDenied, transport.send(HttpRequest("GET", f"https://{host}/"), provider_id="other"))
        assert not error.sent
        assert "hunter2" not in str(error)


@check("TRN-022", "transport", level="should")
async def lets_requests_end_when_it_closes(transport: Transport) -> None:
    """``aclose`` takes no more requests and lets one that is under way end within a grace."""
    go_on = asyncio.Event()

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(http_answer(200, b"done"))

    async with raw_server(slow) as server:
        request = HttpRequest("GET", server.url())
        under_way = asyncio.ensure_future(transport.send(request, provider_id="kit"))
        await asyncio.wait_for(server.arrived.wait(), 10)
        closing = asyncio.ensure_future(transport.aclose())
        await asyncio.sleep(0)
        error = await failure(TransportError, transport.send(request, provider_id="kit"))
        assert not error.sent
        go_on.set()
        assert (await under_way).body == b"done"
        await asyncio.wait_for(closing, 10)
