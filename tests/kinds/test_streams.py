"""Streams: items while they come, a slow taker that holds the sender back, and cuts."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from aiohttp import web

from go_services_core import Operation, Param
from go_services_core.errors import (
    BadInput,
    BodyTooLarge,
    ProviderNotFoundAnswer,
    RequestTimeout,
    ResponseInvalid,
    TransportError,
)
from go_services_core.streaming.sse import SseEvent
from go_services_core.testing.proxy import tcp_proxy
from go_services_core.transport_specs import Stream

from .conftest import open_client


def operation(path: str = "/stream", method: str = "GET", **record: object) -> Operation:
    where = "query" if method == "GET" else "body"
    return Operation("tail", method, path, params=(Param("q", where),), call=Stream(**record))  # type: ignore[arg-type]


async def begun(request: web.Request, kind: str = "application/x-ndjson") -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": kind})
    await answer.prepare(request)
    return answer


async def test_items_are_given_while_the_answer_is_still_open(site):
    taken = asyncio.Event()

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer tok-of-the-connection"
        assert request.query["q"] == "x"
        answer = await begun(request)
        await answer.write(b'{"n": 1}\n{"n"')
        await asyncio.wait_for(taken.wait(), 20)
        await answer.write(b": 2}\n")
        return answer

    async with open_client(site.url, operation()) as client:
        items = client.runtime.stream(client.connection_id, "tail", {"q": "x"})
        assert await asyncio.wait_for(anext(items), 20) == {"n": 1}
        taken.set()
        assert [item async for item in items] == [{"n": 2}]


async def test_a_slow_taker_holds_the_sender_back(site):
    line = json.dumps({"text": "x" * 65000}).encode() + b"\n"
    total = 800 * len(line)  # 52 MB: more than any buffer on the way takes
    written = 0

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal written
        answer = await begun(request)
        for _ in range(800):
            await answer.write(line)
            written += len(line)
        return answer

    async with (
        open_client(site.url, operation()) as client,
        aclosing(client.runtime.stream(client.connection_id, "tail")) as items,
    ):
        await anext(items)
        before = -1
        while written != before:  # until the sender stands still
            before = written
            await asyncio.sleep(0.3)
        assert 0 < written < total / 4
        for _ in range(5):
            await anext(items)


async def test_a_limit_ends_the_stream_and_hangs_up(site):
    hung_up = asyncio.Event()

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = await begun(request)
        try:
            while True:
                await answer.write(b"1\n" * 1000)
                await asyncio.sleep(0)
        except ConnectionError:
            hung_up.set()
            raise

    async with open_client(site.url, operation()) as client:
        assert [item async for item in client.runtime.stream(client.connection_id, "tail", limit=3)] == [1, 1, 1]
        await asyncio.wait_for(hung_up.wait(), 20)
        assert [item async for item in client.runtime.stream(client.connection_id, "tail", limit=0)] == []


async def test_leaving_a_stream_hangs_up(site):
    hung_up = asyncio.Event()

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = await begun(request)
        try:
            while True:
                await answer.write(b"1\n" * 1000)
                await asyncio.sleep(0)
        except ConnectionError:
            hung_up.set()
            raise

    async with open_client(site.url, operation()) as client:
        async with aclosing(client.runtime.stream(client.connection_id, "tail")) as items:
            await anext(items)
        await asyncio.wait_for(hung_up.wait(), 20)


async def test_a_cut_in_the_middle_is_typed_after_the_whole_items(site):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = await begun(request)
        await answer.write(b'{"n": 1}\n{"n": 2')
        request.transport.abort()
        return answer

    got = []
    async with open_client(site.url, operation()) as client:
        with pytest.raises(TransportError):
            async for item in client.runtime.stream(client.connection_id, "tail"):
                got.append(item)
    assert got in ([{"n": 1}], [])


async def test_silence_is_a_cut(site):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = await begun(request)
        await answer.write(b"1\n")
        await asyncio.sleep(30)
        return answer

    async with open_client(site.url, operation(), settings={"transport.stream.idle_timeout": 0.3}) as client:
        items = client.runtime.stream(client.connection_id, "tail")
        assert await anext(items) == 1
        with pytest.raises(RequestTimeout):
            await anext(items)


@pytest.mark.parametrize(
    ("body", "kind"), [(b"1\nnot json\n", ResponseInvalid), (b'"' + b"x" * 3000 + b'"\n', BodyTooLarge)]
)
async def test_what_is_no_item_ends_the_stream_typed(site, body, kind):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with open_client(site.url, operation(), settings={"transport.stream.max_item": 2000}) as client:
        with pytest.raises(kind):
            [item async for item in client.runtime.stream(client.connection_id, "tail")]


async def test_a_status_is_classified_and_retried_as_for_any_call(site):
    states = [503, 200, 404]

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.Response:
        return web.Response(status=states.pop(0), text="1\n")

    async with open_client(site.url, operation()) as client:
        assert [item async for item in client.runtime.stream(client.connection_id, "tail")] == [1]
        with pytest.raises(ProviderNotFoundAnswer) as caught:
            await anext(client.runtime.stream(client.connection_id, "tail"))
    assert caught.value.excerpt.startswith("1")


async def test_a_stream_needs_the_capability_and_the_kind(site):
    plain = Operation("plain", "GET", "/stream")
    async with open_client(site.url, operation(), plain) as client:
        with pytest.raises(BadInput, match="not a stream"):
            await anext(client.runtime.stream(client.connection_id, "plain"))
        with pytest.raises(BadInput, match=r"Runtime\.stream"):
            await client.call("tail")
    assert not site.requests


async def test_lines_and_a_posted_body(site):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.Response:
        assert await request.json() == {"q": "é"}
        return web.Response(text="a\r\n\nb")

    async with open_client(site.url, operation(method="POST", format="lines")) as client:
        items = client.runtime.stream(client.connection_id, "tail", {"q": "é"})
        assert [item async for item in items] == ["a", "", "b"]


async def test_events_end_at_the_marker(site):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.Response:
        assert request.headers["Accept"] == "text/event-stream"
        return web.Response(body=b"data: a\n\ndata: [DONE]\n\ndata: b\n\n", content_type="text/event-stream")

    async with open_client(site.url, operation(format="sse", end="[DONE]", reconnects=3)) as client:
        items = client.runtime.stream(client.connection_id, "tail")
        assert [item async for item in items] == [SseEvent("a")]


async def test_events_of_another_media_type_are_refused(site):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.Response:
        return web.Response(text="data: a\n\n")

    async with open_client(site.url, operation(format="sse")) as client:
        with pytest.raises(ResponseInvalid, match="text/event-stream"):
            await anext(client.runtime.stream(client.connection_id, "tail"))


async def test_a_cut_stream_of_events_goes_on_behind_the_last_one_a_bounded_number_of_times(site):
    asked: list[str | None] = []

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID"))
        answer = await begun(request, "text/event-stream")
        if len(asked) <= 2:
            number = len(asked)
            await answer.write(b"retry: 700\nid: %d\ndata: %d\n\ndata: half" % (number, number))
        await answer.write_eof()
        return answer

    async with open_client(site.url, operation(format="sse", reconnects=2)) as client:
        items = client.runtime.stream(client.connection_id, "tail")
        assert [item.data async for item in items] == ["1", "2"]
        assert client.clock.slept == [0.7] * 3
    assert asked == [None, "1", "2", "2"]


async def test_events_through_a_network_that_cuts_come_complete_and_once(site):
    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = await begun(request, "text/event-stream")
        for number in range(int(request.headers.get("Last-Event-ID", 0)) + 1, 201):
            await answer.write(b"id: %d\ndata: %s\n\n" % (number, b"x" * 50))
        await answer.write(b"data: end\n\n")
        return answer

    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["down"] = 5000
        url = f"http://127.0.0.1:{proxy.port}"
        async with open_client(url, operation(format="sse", reconnects=3, end="end")) as client:
            items = client.runtime.stream(client.connection_id, "tail")
            ids = [item.id async for item in items]
    assert ids == [str(number) for number in range(1, 201)]
    assert proxy.connections > 2


async def test_a_stream_of_204_is_not_opened_again(site):
    count = 0

    @site.on("/api/stream")
    async def stream(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(status=204)

    async with open_client(site.url, operation(format="sse", reconnects=5)) as client:
        assert [item async for item in client.runtime.stream(client.connection_id, "tail")] == []
    assert count == 1


async def test_only_events_reconnect(site):
    async with open_client(site.url, operation(reconnects=1)) as client:
        with pytest.raises(BadInput, match="sse"):
            await anext(client.runtime.stream(client.connection_id, "tail"))
