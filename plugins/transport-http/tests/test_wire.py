"""What is on the wire, read from a raw socket, and what is refused because it would change there."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from go_services_core.errors import BadInput, BodyTooLarge, ConfigError, RequestTimeout, TransportError
from go_services_core.http import HttpRequest
from go_services_core.testing.rawserver import http_answer, raw_server
from go_services_transport_http.transport import HttpTransport

Make = Callable[..., HttpTransport]


async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


class Pieces:
    def __init__(self, *pieces: bytes | Exception, length: int | None = None) -> None:
        self.pieces = pieces
        self.length = length
        self.closed = 0

    async def open(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed += 1


async def test_not_one_byte_is_added_but_host_and_length(make: Make) -> None:
    transport = make()
    async with raw_server() as server:
        host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
        for request, expected in (
            (HttpRequest("GET", server.url("")), b"GET / HTTP/1.1\r\n" + host + b"\r\n"),
            (HttpRequest("DELETE", server.url("/x?")), b"DELETE /x HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n"),
            (
                HttpRequest("POST", server.url("/t?k=%2f&k="), (("a-B", "v  w"), ("Accept", "*/*")), b"{}"),
                b"POST /t?k=%2f&k= HTTP/1.1\r\n" + host + b"a-B: v  w\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n{}",
            ),
            (
                HttpRequest("PATCH", server.url("/t#part"), (("Content-Length", "1"), ("X", "\u00e9\t")), b"x"),
                b"PATCH /t HTTP/1.1\r\n" + host + "Content-Length: 1\r\nX: é\t\r\n\r\nx".encode(),
            ),
        ):
            await transport.send(request, provider_id="kit")
            assert server.requests[-1] == expected
        assert server.connections == 1
    await transport.aclose()


async def test_cookies_are_answers_and_never_kept(make: Make) -> None:
    transport = make(allow={"kit": ("localhost:*",)})
    async with raw_server(http_answer(200, headers=(("Set-Cookie", "session=hunter2; Path=/"),))) as server:
        for _ in range(2):
            url = server.url(host="localhost")
            answer = await transport.send(HttpRequest("GET", url), provider_id="kit")
            assert answer.header("set-cookie") == "session=hunter2; Path=/"
            assert not any(line.lower().startswith("cookie") for line in server.lines())
    await transport.aclose()


async def test_large_body_arrives_whole(make: Make) -> None:
    transport = make()
    body = bytes(range(256)) * 8 * 1024 + b"!"
    async with raw_server() as server:
        await transport.send(HttpRequest("PUT", server.url(), (), body), provider_id="kit")
        assert f"Content-Length: {len(body)}" in server.lines()
        assert server.body() == body
    await transport.aclose()


async def test_configured_user_agent_is_sent_only_where_there_is_none(make: Make) -> None:
    transport = make(user_agent="acme/1.0")
    async with raw_server() as server:
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert server.lines()[-1] == "User-Agent: acme/1.0"
        await transport.send(HttpRequest("GET", server.url(), (("user-agent", "own"),)), provider_id="kit")
        assert [line for line in server.lines() if "agent" in line.lower()] == ["user-agent: own"]
    await transport.aclose()


@pytest.mark.parametrize(
    "headers",
    [
        (("Host", "elsewhere.example"),),
        (("Transfer-Encoding", "chunked"),),
        (("Content-Length", "3"),),
        (("content-length", "+4"),),
        (("X-Key", "1"), ("x-key", "2")),
        (("X-Key", "a\x01b"),),
        (("X-Key", "a\x7fb"),),
        (("X-Key", "\ud800"),),
        (("X Key", "1"),),
        (("X-Key:", "1"),),
    ],
)
async def test_header_that_would_not_arrive_as_written_is_refused(
    make: Make, headers: tuple[tuple[str, str], ...]
) -> None:
    transport = make()
    async with raw_server() as server:
        with pytest.raises(BadInput) as caught:
            await transport.send(HttpRequest("POST", server.url(), headers, b"body"), provider_id="kit")
        assert not server.requests
        assert "elsewhere" not in str(caught.value)
    await transport.aclose()


@pytest.mark.parametrize("method", ["get", "Get", "", "GET /x HTTP/1.1\r\nX:", "CONNECT", "GET "])
async def test_method_that_would_not_arrive_as_written_is_refused(make: Make, method: str) -> None:
    transport = make()
    async with raw_server() as server:
        with pytest.raises(BadInput):
            await transport.send(HttpRequest(method, server.url()), provider_id="kit")
        assert not server.requests
    await transport.aclose()


async def test_body_source_is_opened_anew_for_each_request_and_closed(make: Make) -> None:
    transport = make()
    source = Pieces(b"ab", b"", b"c" * 100_000, length=100_002)
    async with raw_server() as server:
        for _ in range(2):
            await transport.send(HttpRequest("PUT", server.url(), (), source), provider_id="kit")
        assert server.body(0) == server.body(1) == b"ab" + b"c" * 100_000
        assert source.closed == 2
    await transport.aclose()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Pieces(b"ab", length=3), "not as long"),
        (Pieces(b"ab", b"cd", length=3), "not as long"),
        (Pieces(b"ab", OSError("hunter2"), length=3), "could not be read (OSError)"),
        (Pieces(b"ab", ValueError("hunter2")), "could not be read (ValueError)"),
    ],
)
async def test_body_source_that_fails_ends_the_exchange_and_says_why(make: Make, source: Pieces, reason: str) -> None:
    transport = make()
    async with raw_server() as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(HttpRequest("PUT", server.url(), (), source), provider_id="kit")
        assert reason in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert caught.value.sent
        await asyncio.wait_for(server.hung_up.wait(), 10)
        assert not server.requests
        assert source.closed == 1
        assert (await transport.send(HttpRequest("GET", server.url()), provider_id="kit")).status == 200
    await transport.aclose()


async def test_answer_before_the_body_is_sent_ends_the_upload(make: Make) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_answer(413, b"no"))
        while await reader.read(65536):
            pass

    class Endless:
        length = None

        def __init__(self) -> None:
            self.closed = asyncio.Event()

        async def open(self) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
                    await asyncio.sleep(0)
            finally:
                self.closed.set()

    transport, source = make(), Endless()
    async with raw_server(talk=early) as server:
        answer = await transport.send(HttpRequest("POST", server.url(), (), source), provider_id="kit")
        assert answer.status == 413
        await asyncio.wait_for(source.closed.wait(), 10)
    await transport.aclose()


async def test_compressed_answer_is_decompressed(make: Make) -> None:
    transport = make()
    for encoding, packed in (("gzip", gzip.compress(b"hello")), ("deflate", zlib.compress(b"hello"))):
        async with raw_server(http_answer(200, packed, (("Content-Encoding", encoding),))) as server:
            answer = await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
            assert answer.body == b"hello"
    await transport.aclose()


async def test_decompressed_size_counts_and_a_bomb_is_not_inflated(make: Make) -> None:
    transport = make(max_body=1_000_000)
    bomb = gzip.compress(bytes(200_000_000))
    async with raw_server(http_answer(200, bomb, (("Content-Encoding", "gzip"),))) as server:
        with pytest.raises(BodyTooLarge) as caught:
            await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert "1000000 bytes" in str(caught.value)
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


async def test_endless_answer_is_stopped_at_the_limit(make: Make) -> None:
    async def pour(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    transport = make(max_body=100_000)
    async with raw_server(pour) as server:
        with pytest.raises(BodyTooLarge):
            await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        await asyncio.wait_for(server.hung_up.wait(), 10)
    await transport.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        http_answer(200, b"hunter2 is not gzip", (("Content-Encoding", "gzip"),)),
    ],
)
async def test_answer_that_is_not_http_is_a_transport_error_without_its_content(make: Make, answer: bytes) -> None:
    async def say(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    transport = make()
    async with raw_server(say) as server:
        with pytest.raises(TransportError) as caught:
            await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert caught.value.sent
        assert "hunter2" not in str(caught.value)
        assert "SSH" not in str(caught.value)
        assert len(server.requests) == 1
    await transport.aclose()


async def test_time_that_is_over_before_the_start_sends_nothing(make: Make) -> None:
    transport = make()
    async with raw_server() as server:
        for timeout in (0, -1.5):
            with pytest.raises(RequestTimeout) as caught:
                await transport.send(HttpRequest("GET", server.url(), timeout=timeout), provider_id="kit")
            assert caught.value.sent is False
        assert not server.requests
    await transport.aclose()


async def test_timeout_while_waiting_for_a_free_connection_is_unsent(make: Make) -> None:
    transport = make(connections=1)
    async with raw_server(hang) as server:
        first = asyncio.ensure_future(transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
        await asyncio.wait_for(server.arrived.wait(), 10)
        with pytest.raises(RequestTimeout) as caught:
            await transport.send(HttpRequest("GET", server.url("/second"), timeout=0.05), provider_id="kit")
        assert caught.value.sent is False
        assert len(server.requests) == 1
        first.cancel()
        await asyncio.wait([first])
    await transport.aclose()


async def test_timeout_while_the_body_comes_is_sent(make: Make) -> None:
    async def half(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await hang(request, writer)

    transport = make(timeout=0.1)
    async with raw_server(half) as server:
        with pytest.raises(RequestTimeout) as caught:
            await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert caught.value.sent
        assert f"GET 127.0.0.1:{server.port}" in str(caught.value)
    await transport.aclose()


async def test_closing_without_grace_ends_requests_under_way_and_waiting_ones_with_an_error(make: Make) -> None:
    transport = make(connections=1)
    async with raw_server(hang) as server:
        tasks = [
            asyncio.ensure_future(transport.send(HttpRequest("GET", server.url()), provider_id="kit")) for _ in range(2)
        ]
        await asyncio.wait_for(server.arrived.wait(), 10)
        await transport.aclose(grace=0)
        under_way, waiting = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(under_way, TransportError)
        assert under_way.sent
        assert isinstance(waiting, TransportError)
        assert not waiting.sent


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout": 0},
        {"connect_timeout": -1.0},
        {"max_body": 0},
        {"connections": 0},
        {"connections_per_host": -1},
        {"keepalive": 0.0},
        {"timeout": float("nan")},
    ],
)
def test_setting_out_of_range_is_a_configuration_error_that_names_it(make: Make, setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**setting)
    assert caught.value.field in setting
