"""The proxy of the fault tests, between real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from go_services_core.testing.proxy import TcpProxy, Way, tcp_proxy

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo_through_proxy() -> AsyncIterator[TcpProxy]:
    """A proxy to a server that sends back what it gets, and then closes its side."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
            writer.write(b" end")
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with tcp_proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    async with echo_through_proxy() as made:
        yield made


@pytest.fixture
async def client(proxy: TcpProxy) -> AsyncIterator[Pair]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield reader, writer
    writer.transport.abort()


async def said(client: Pair, text: bytes) -> bytes:
    """Send, and read as much back."""
    client[1].write(text)
    return await client[0].readexactly(len(text))


async def test_bytes_go_through_in_both_directions(proxy: TcpProxy, client: Pair) -> None:
    assert await said(client, b"one") == b"one"
    client[1].write_eof()
    assert await client[0].read() == b" end"
    assert proxy.connections == 1


async def test_delay_holds_each_chunk_up(proxy: TcpProxy, client: Pair) -> None:
    proxy.delay = 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await said(client, b"one") == b"one"
    assert loop.time() - began >= 0.1


async def test_cut_ends_the_connection_and_new_ones_work(proxy: TcpProxy, client: Pair) -> None:
    await said(client, b"one")
    proxy.cut()
    assert await client[0].read() == b""
    other = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(other, b"two") == b"two"
    other[1].transport.abort()


async def test_reset_is_an_error_for_the_client(proxy: TcpProxy, client: Pair) -> None:
    await said(client, b"one")
    proxy.cut(reset=True)
    with pytest.raises(ConnectionResetError):
        await client[0].read()


async def test_half_close_leaves_the_other_direction_open(proxy: TcpProxy, client: Pair) -> None:
    await said(client, b"one")
    proxy.half_close("up")
    assert await client[0].read() == b" end"


async def test_limit_truncates_in_the_middle(proxy: TcpProxy, client: Pair) -> None:
    proxy.limits["down"] = 5
    client[1].write(b"0123456789")
    assert await client[0].read() == b"01234"


async def test_held_network_is_silent_until_released(proxy: TcpProxy, client: Pair) -> None:
    proxy.hold()
    answer = asyncio.ensure_future(said(client, b"one"))
    await asyncio.sleep(0.05)
    assert not answer.done()
    proxy.release()
    assert await answer == b"one"


async def test_refused_connection_ends_at_once(proxy: TcpProxy) -> None:
    proxy.refuse = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.transport.abort()


async def test_watch_sees_every_chunk_and_can_stop_one(proxy: TcpProxy, client: Pair) -> None:
    seen: list[tuple[int, Way, bytes]] = []

    def watch(connection: int, way: Way, data: bytes) -> bool:
        seen.append((connection, way, data))
        return b"stop" in data

    proxy.watch = watch
    await said(client, b"go")
    client[1].write(b"stop")
    with pytest.raises(ConnectionResetError):
        await client[0].read()
    number = proxy.connections
    assert seen == [(number, "up", b"go"), (number, "down", b"go"), (number, "up", b"stop")]


async def test_server_that_is_away_is_a_closed_connection() -> None:
    async with echo_through_proxy() as made:
        made.target = ("127.0.0.1", 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.transport.abort()
