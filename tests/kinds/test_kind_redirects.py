"""Redirects of streams and files: each hop keeps the rules of every other call. P31, P34."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from go_services_core import Operation
from go_services_core.errors import EgressDenied, RedirectRefused
from go_services_core.model import OperationResult
from go_services_core.testing.rawserver import RawServer, http_answer, raw_server
from go_services_core.transport_specs import File, Stream

from .conftest import Client, Site, open_client

ITEM = http_answer(200, b'{"n": 1}\n', (("Content-Type", "application/x-ndjson"),))
TOKEN = "tok-of-the-connection"
KINDS: dict[str, Stream | File] = {"stream": Stream(), "download": File(direction="download")}


async def read(client: Client, kind: str, target: Path) -> bytes:
    """What the operation gives."""
    if kind == "stream":
        return repr([item async for item in client.runtime.stream(client.connection_id, "get")]).encode()
    await client.runtime.download(client.connection_id, "get", target)
    return await asyncio.to_thread(target.read_bytes)


@asynccontextmanager
async def moved(site: Site, kind: str, *, own: bool, **record: Any) -> AsyncIterator[tuple[Client, RawServer]]:
    """A client whose operation is redirected to another server, which is the provider's ``own`` or somebody else's."""
    async with raw_server(ITEM) as there:

        @site.on("/api/get")
        async def get(request: web.Request) -> web.Response:
            await site.note(request)
            return web.Response(status=307, headers={"Location": there.url("/elsewhere")})

        operation = Operation("get", "GET", "/get", call=KINDS[kind], **record)
        host = f"127.0.0.1:{there.port}"
        allowed = {"egress.allow": {"kinds": [site.url.removeprefix("http://"), host]}}
        async with open_client(site.url, operation, hosts=(host,) if own else (), settings=allowed) as client:
            yield client, there


@pytest.mark.parametrize("kind", KINDS)
async def test_hop_to_another_host_of_the_provider_is_signed(site: Site, tmp_path: Path, kind: str) -> None:
    async with moved(site, kind, own=True) as (client, there):
        assert b"1" in await read(client, kind, tmp_path / "file")
        (request,) = there.requests
        assert request.startswith(b"GET /elsewhere ")
        assert TOKEN.encode() in request


@pytest.mark.parametrize("kind", KINDS)
async def test_hop_to_a_foreign_host_is_refused_and_nothing_is_sent(site: Site, tmp_path: Path, kind: str) -> None:
    async with moved(site, kind, own=False) as (client, there):
        with pytest.raises(EgressDenied, match="redirects get"):
            await read(client, kind, tmp_path / "file")
        assert there.requests == []
        assert not (tmp_path / "file").exists()
        assert len(site.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_hop_to_a_foreign_host_that_the_record_allows_carries_nothing(
    site: Site, tmp_path: Path, kind: str
) -> None:
    async with moved(site, kind, own=False, redirects="any") as (client, there):
        assert b"1" in await read(client, kind, tmp_path / "file")
        (request,) = there.requests
        assert TOKEN.encode() not in request
        assert b"authorization" not in request.lower()


@pytest.mark.parametrize("kind", KINDS)
async def test_guard_sees_the_hop(site: Site, tmp_path: Path, kind: str) -> None:
    @site.on("/api/get")
    async def get(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})

    operation = Operation("get", "GET", "/get", call=KINDS[kind], redirects="any")
    async with open_client(site.url, operation) as client:
        with pytest.raises(EgressDenied, match="169"):
            await read(client, kind, tmp_path / "file")


async def test_upload_goes_to_another_host_of_the_provider_whole_and_to_nobody_else(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"the file's content")

    async def put(client: Client) -> OperationResult:
        return await client.runtime.upload(client.connection_id, "put", source)

    async with raw_server(http_answer(200, b"{}", (("Content-Type", "application/json"),))) as there:
        status = 307

        @site.on("/api/put")
        async def up(request: web.Request) -> web.Response:
            await site.note(request)
            return web.Response(status=status, headers={"Location": there.url("/elsewhere")})

        operation = Operation("put", "POST", "/put", call=File(direction="upload"), redirects="any")
        host = f"127.0.0.1:{there.port}"
        allowed = {"egress.allow": {"kinds": [site.url.removeprefix("http://"), host]}}
        async with open_client(site.url, operation, settings=allowed) as client:
            with pytest.raises(EgressDenied):
                await put(client)
        assert there.requests == []
        async with open_client(site.url, operation, hosts=(host,), settings=allowed) as client:
            assert (await put(client)).status == 200
            status = 302
            with pytest.raises(RedirectRefused):
                await put(client)
        (request,) = there.requests
        assert request.endswith(b"the file's content")
        assert TOKEN.encode() in request
