"""Closing: nothing new, what is under way may end, and then everything is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from go_services_core.errors import TransportError
from go_services_core.http import HttpRequest
from go_services_core.testing.rawserver import http_answer, raw_server
from go_services_transport_http.transport import HttpTransport

Make = Callable[..., HttpTransport]


async def test_request_under_way_ends_within_the_grace_and_no_other_begins(make: Make) -> None:
    go_on = asyncio.Event()

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(http_answer(200, b"done"))

    transport = make()
    async with raw_server(slow) as server:
        under_way = asyncio.ensure_future(transport.send(HttpRequest("GET", server.url()), provider_id="kit"))
        await asyncio.wait_for(server.arrived.wait(), 10)
        closing = asyncio.ensure_future(transport.aclose())
        await asyncio.sleep(0)
        with pytest.raises(TransportError, match="closed") as caught:
            await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        assert caught.value.sent is False
        assert not closing.done()
        go_on.set()
        assert (await under_way).body == b"done"
        await asyncio.wait_for(closing, 5)
        await asyncio.wait_for(server.hung_up.wait(), 10)
        assert len(server.requests) == 1


async def test_request_that_waits_for_a_connection_is_under_way_too(make: Make) -> None:
    transport = make(connections=1)
    async with raw_server(http_answer(200, b"done")) as server:
        tasks = [
            asyncio.ensure_future(transport.send(HttpRequest("GET", server.url()), provider_id="kit")) for _ in range(3)
        ]
        await asyncio.sleep(0)
        await transport.aclose()
        assert [answer.body for answer in await asyncio.gather(*tasks)] == [b"done"] * 3


async def test_stream_under_way_may_be_read_to_its_end(make: Make) -> None:
    transport = make()
    async with raw_server(http_answer(200, b"x" * 500_000)) as server:
        async with transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer:
            closing = asyncio.ensure_future(transport.aclose())
            await asyncio.sleep(0)
            assert len(await answer.read(500_000)) == 500_000
        await asyncio.wait_for(closing, 5)


@pytest.mark.parametrize("how", ["setting", "argument"])
async def test_after_the_grace_what_hangs_is_cut(make: Make, how: str) -> None:
    async def hang(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    transport = make(close_grace=0.05) if how == "setting" else make()
    async with raw_server(hang) as server:
        under_way = asyncio.ensure_future(
            transport.send(HttpRequest("POST", server.url(), (), b"x"), provider_id="kit")
        )
        await asyncio.wait_for(server.arrived.wait(), 10)
        async with asyncio.timeout(5):
            await (transport.aclose() if how == "setting" else transport.aclose(grace=0.05))
        with pytest.raises(TransportError) as caught:
            await under_way
        assert caught.value.sent
        await asyncio.wait_for(server.hung_up.wait(), 10)


async def test_nothing_under_way_closes_at_once(make: Make) -> None:
    transport = make(close_grace=3600.0)
    async with raw_server() as server:
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        async with asyncio.timeout(5):
            await transport.aclose()


async def test_one_host_gets_only_so_many_connections_at_once(make: Make) -> None:
    go_on = asyncio.Event()

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(http_answer(200))

    transport = make(connections_per_host=2)
    async with raw_server(slow) as full, raw_server() as other:
        tasks = [
            asyncio.ensure_future(transport.send(HttpRequest("GET", full.url()), provider_id="kit")) for _ in range(5)
        ]
        await asyncio.wait_for(full.arrived.wait(), 10)
        assert (await transport.send(HttpRequest("GET", other.url()), provider_id="kit")).status == 200
        assert full.connections <= 2
        go_on.set()
        assert [answer.status for answer in await asyncio.gather(*tasks)] == [200] * 5
        assert full.connections == 2
    await transport.aclose()


async def test_idle_connection_is_closed_after_keepalive(make: Make) -> None:
    transport = make(keepalive=0.05)
    async with raw_server() as server:
        await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
        await asyncio.wait_for(server.hung_up.wait(), 10)
        assert (await transport.send(HttpRequest("GET", server.url()), provider_id="kit")).status == 200
        assert server.connections == 2
    await transport.aclose()
