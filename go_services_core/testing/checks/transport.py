"""Checks for transports. Each starts a server on 127.0.0.1, which the subject allows for the provider ``kit``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from ...errors import BadInput, BodyTooLarge, ConnectFailed, EgressDenied, RequestTimeout, TransportError
from ...http import HttpRequest
from ...protocols import Transport
from ..kit import check
from ..rawserver import http_answer, raw_server

E = TypeVar("E", bound=Exception)
_FRAMING = ("host:", "content-length:", "transfer-encoding:")


def _own(lines: list[str]) -> list[str]:
    """The header lines that are the request's own, without what HTTP itself needs."""
    return [line for line in lines[1:] if not line.lower().startswith(_FRAMING)]


async def failure(kind: type[E], sending: Awaitable[object]) -> E:
    """The error of ``kind`` in which ``sending`` ends."""
    try:
        await sending
    except kind as error:
        return error
    raise AssertionError(f"the request went through instead of ending in {kind.__name__}")


async def _hang(request: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _cut(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    await writer.drain()
    writer.close()


@check("TRN-001", "transport")
async def sends_the_exact_bytes(transport: Transport) -> None:
    """Method, target, headers in order and body arrive as the request has them; only framing and Host are added."""
    headers = (("X-Signature", "v1=AbC+/="), ("X-Twice", "1"), ("content-type", "text/x"), ("X-Twice", "2"))
    async with raw_server() as server:
        await transport.send(HttpRequest("POST", server.url("/p/a;b=1"), headers, b"\x00\xff body"), provider_id="kit")
        lines = server.lines()
        assert lines[0] == "POST /p/a;b=1 HTTP/1.1", lines[0]
        assert _own(lines) == [f"{name}: {value}" for name, value in headers], f"header lines: {_own(lines)}"
        assert [line for line in lines if line.lower() == "content-length: 7"], "no Content-Length of 7"
        assert f"host: 127.0.0.1:{server.port}" in [line.lower() for line in lines], "no Host"
        assert server.body() == b"\x00\xff body"


@check("TRN-002", "transport")
async def keeps_the_query_as_it_is(transport: Transport) -> None:
    """Repeated keys, their order, percent-encoding and empty values of the query are sent unchanged."""
    target = "/a%2Fb/%7e//../x?b=2&a=1&b=1&empty=&flag&q=%e4%BA+%20~%7E*'"
    async with raw_server() as server:
        await transport.send(HttpRequest("GET", server.url(target)), provider_id="kit")
        assert server.lines()[0] == f"GET {target} HTTP/1.1", server.lines()[0]


@check("TRN-003", "transport")
async def gives_the_answer_as_it_came(transport: Transport) -> None:
    """Any status is an answer, with its headers in order, repeated ones too, and its body."""
    headers = (("X-a", "1"), ("Set-Cookie", "s=1"), ("x-A", "2"), ("Set-Cookie", "t=2"))
    async with raw_server(http_answer(503, b"busy", headers), http_answer(204)) as server:
        answer = await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert answer.status == 503
        assert answer.body == b"busy"
        assert answer.headers[: len(headers)] == headers, f"headers: {answer.headers}"
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert not any(line.lower().startswith("cookie") for line in server.lines()), "a cookie was kept and sent"


@check("TRN-004", "transport")
async def follows_no_redirect(transport: Transport) -> None:
    """A redirect is returned as the answer; nothing is sent to its target."""
    async with raw_server() as target:
        moved = http_answer(302, headers=(("Location", target.url("/stolen")),))
        async with raw_server(moved) as server:
            request = HttpRequest("GET", server.url(), (("Authorization", "Bearer x"),))
            assert (await transport.send(request, provider_id="kit")).status == 302
        assert not target.requests


@check("TRN-005", "transport")
async def ends_when_the_time_is_over(transport: Transport) -> None:
    """A request over its ``timeout`` ends in RequestTimeout that says the bytes may have left, and hangs up."""
    async with raw_server(_hang) as server:
        request = HttpRequest("POST", server.url(), (), b"x", timeout=0.2)
        error = await failure(RequestTimeout, transport.send(request, provider_id="kit"))
        assert error.sent, "sent must be True once the request may have left"
        await asyncio.wait_for(server.hung_up.wait(), 10)


@check("TRN-006", "transport")
async def refuses_a_body_over_the_limit(transport: Transport) -> None:
    """An answer of ``max_body`` bytes is returned; one byte more is BodyTooLarge, and the transport goes on."""
    async with raw_server(http_answer(200, b"x" * 1000)) as server:
        within, over = (HttpRequest("GET", server.url(), max_body=limit) for limit in (1000, 999))
        assert len((await transport.send(within, provider_id="kit")).body) == 1000
        await failure(BodyTooLarge, transport.send(over, provider_id="kit"))
        assert len((await transport.send(within, provider_id="kit")).body) == 1000


@check("TRN-007", "transport")
async def types_a_cut_connection(transport: Transport) -> None:
    """An answer that ends before its length is a TransportError with ``sent``, and the request is sent only once."""
    async with raw_server(_cut) as server:
        error = await failure(TransportError, transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
        assert error.sent
        assert len(server.requests) == 1


@check("TRN-008", "transport")
async def never_repeats_a_request(transport: Transport) -> None:
    """A kept connection that the server drops without an answer is an error with ``sent``; nothing is sent again."""

    async def drop(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with raw_server(http_answer(), drop, http_answer()) as server:
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        error = await failure(TransportError, transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
        assert error.sent
        assert len(server.requests) == 2


@check("TRN-009", "transport")
async def says_when_nobody_listens(transport: Transport) -> None:
    """A refused connection is ConnectFailed, and nothing was sent."""
    async with raw_server() as server:
        url = server.url()
    error = await failure(ConnectFailed, transport.send(HttpRequest("POST", url, (), b"x"), provider_id="kit"))
    assert not error.sent


@check("TRN-010", "transport")
async def guards_loopback(transport: Transport) -> None:
    """A provider without an allowance does not reach 127.0.0.1, not even over a connection that another one opened."""
    async with raw_server() as server:
        request = HttpRequest("GET", server.url())
        await transport.send(request, provider_id="kit")
        for url in (server.url(), server.url(scheme="https"), server.url(host="localhost", scheme="https")):
            error = await failure(EgressDenied, transport.send(HttpRequest("GET", url), provider_id="other"))
            assert not error.sent
            assert "other" in str(error), "the message must name the provider"
        await transport.send(request, provider_id="kit")
        assert len(server.requests) == 2
        assert server.connections == 1, "a refused request opened a connection"


@check("TRN-011", "transport")
async def refuses_header_injection(transport: Transport) -> None:
    """A line break or NUL in a header's name or value is BadInput before anything is sent."""
    async with raw_server() as server:
        for pair in (("X-A", "1\r\nX-B: 2"), ("X-A", "1\n"), ("X-A", "\0"), ("X-A\r\nX-B", "1"), ("", "1")):
            await failure(BadInput, transport.send(HttpRequest("GET", server.url(), (pair,)), provider_id="kit"))
        assert not server.requests


@check("TRN-012", "transport")
async def refuses_target_injection(transport: Transport) -> None:
    """A URL with a space, a line break or a character outside ASCII is BadInput before anything is sent."""
    async with raw_server() as server:
        for target in ("/a b", "/a\r\nX-B:1", "/a\tb", "/ä", "/a\\b"):
            await failure(BadInput, transport.send(HttpRequest("GET", server.url(target)), provider_id="kit"))
        assert not server.requests


@check("TRN-013", "transport")
async def closes_on_cancellation(transport: Transport) -> None:
    """Cancelling a request closes its connection, and the transport goes on to serve others."""
    async with raw_server(_hang, http_answer()) as server:
        task = asyncio.ensure_future(transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
        await asyncio.wait_for(server.arrived.wait(), 10)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "the cancellation was swallowed"
        await asyncio.wait_for(server.hung_up.wait(), 10)
        assert (await transport.send(HttpRequest("GET", server.url()), provider_id="kit")).status == 200


class _Pieces:
    """A body in pieces; ``length`` is None or the sum."""

    def __init__(self, *pieces: bytes, known: bool) -> None:
        self.pieces = pieces
        self.length = sum(map(len, pieces)) if known else None

    async def open(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


@check("TRN-014", "transport")
async def streams_a_body(transport: Transport) -> None:
    """A BodySource of known length is sent with Content-Length, one of unknown length in chunks."""
    async with raw_server() as server:
        known, unknown = _Pieces(b"abc", b"defg", known=True), _Pieces(b"abc", b"defg", known=False)
        await transport.send(HttpRequest("PUT", server.url(), (), known), provider_id="kit")
        assert "content-length: 7" in [line.lower() for line in server.lines()]
        assert server.body() == b"abcdefg"
        await transport.send(HttpRequest("PUT", server.url(), (), unknown), provider_id="kit")
        assert "transfer-encoding: chunked" in [line.lower() for line in server.lines()]
        assert b"abc" in server.body()
        assert b"defg" in server.body()


@check("TRN-015", "transport")
async def closes_twice(transport: Transport) -> None:
    """``aclose`` closes kept connections and may be called again; a request after it is a TransportError unsent."""
    async with raw_server() as server:
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        await transport.aclose()
        await transport.aclose()
        await asyncio.wait_for(server.hung_up.wait(), 10)
        error = await failure(TransportError, transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
        assert not error.sent
