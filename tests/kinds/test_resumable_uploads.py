"""Uploads in chunks: after each cut the server is asked how far it came, and the upload goes on from there."""

from __future__ import annotations

import re

import pytest
from aiohttp import web

from go_services_core import SecretStr
from go_services_core.errors import BadInput, EgressDenied, ProviderUnavailable
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.proxy import tcp_proxy

from .conftest import DATA, LeapingClock, Site, open_client, upload


class Drive:
    """An upload server as Google's, which keeps each byte as it comes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sessions: dict[str, bytearray] = {}
        self.metadata: list[bytes] = []
        self.failures: list[int] = []
        self.chunks: list[str] = []
        self.url = site.url
        site.on("/api/upload")(self.begin)
        site.on("/api/session")(self.chunk)

    async def begin(self, request: web.Request) -> web.Response:
        self.metadata.append(await request.read())
        assert request.headers["X-Upload-Content-Length"] == str(len(DATA))
        assert request.headers["X-Upload-Content-Type"] == "image/png"
        name = f"s{len(self.sessions)}"
        self.sessions[name] = bytearray()
        return web.Response(headers={"Location": f"{self.url}/api/session?id={name}"})

    async def chunk(self, request: web.Request) -> web.Response:
        held = self.sessions.get(request.query["id"])
        if held is None:
            return web.Response(status=404)
        said = request.headers["Content-Range"]
        self.chunks.append(said)
        if not said.startswith("bytes */"):
            start = int(re.fullmatch(rf"bytes (\d+)-\d+/{len(DATA)}", said)[1])
            assert start == len(held), "what came was sent again, or something was left out"
            if self.failures and (status := self.failures.pop(0)):
                return web.Response(status=status)
            async for piece in request.content.iter_any():
                held += piece
        if len(held) == len(DATA):
            return web.json_response({"id": "f1"})
        return web.Response(status=308, headers={"Range": f"bytes=0-{len(held) - 1}"} if held else {})


CHUNK = {"transport.file.chunk": 65536}


async def test_a_resumable_upload_sends_chunk_after_chunk(site):
    drive = Drive(site)
    told: list[int] = []
    async with open_client(site.url, upload("resumable"), settings=CHUNK) as client:
        result = await client.runtime.upload(
            client.connection_id,
            "put",
            DATA,
            {"name": "a"},
            content_type="image/png",
            progress=lambda done, total: told.append(done),
        )
    assert result.data == {"id": "f1"}
    assert bytes(drive.sessions["s0"]) == DATA
    assert drive.metadata == [b'{"name":"a"}']
    assert len(drive.chunks) == 5
    assert told[-1] == len(DATA)


async def test_it_goes_on_from_what_the_server_has_after_each_cut(site):
    drive = Drive(site)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["up"] = 90_000
        drive.url = f"http://127.0.0.1:{proxy.port}"
        async with open_client(drive.url, upload("resumable", chunk=200_000)) as client:
            result = await client.runtime.upload(client.connection_id, "put", DATA, content_type="image/png")
    assert result.data == {"id": "f1"}
    assert bytes(drive.sessions["s0"]) == DATA
    assert proxy.connections >= 4
    assert f"bytes */{len(DATA)}" in drive.chunks


async def test_it_survives_a_server_error(site):
    drive = Drive(site)
    drive.failures = [0, 503, 500, 0, 503]
    async with open_client(site.url, upload("resumable"), settings=CHUNK) as client:
        await client.runtime.upload(client.connection_id, "put", DATA, content_type="image/png")
    assert bytes(drive.sessions["s0"]) == DATA


async def test_a_session_that_is_gone_begins_anew(site):
    drive = Drive(site)
    drive.failures = [0, 404]
    async with open_client(site.url, upload("resumable"), settings=CHUNK) as client:
        await client.runtime.upload(client.connection_id, "put", DATA, content_type="image/png")
    assert list(drive.sessions) == ["s0", "s1"]
    assert bytes(drive.sessions["s1"]) == DATA


async def test_it_ends_when_it_gets_no_further_and_another_process_goes_on_from_there(site, tmp_path):
    drive = Drive(site)
    drive.failures = [0, *[503] * 5]
    clock = LeapingClock()
    store = MemoryStore(clock=clock)
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    async with open_client(site.url, upload("resumable"), settings=CHUNK, store=store, clock=clock) as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await client.runtime.upload(client.connection_id, "put", path, content_type="image/png")
        connection_id = client.connection_id
    token = caught.value.resume
    assert token is not None
    assert "session" not in f"{caught.value!r} {caught.value.as_dict()} {token!r}"
    before = len(drive.chunks)
    drive.failures = []
    options = {"settings": CHUNK, "store": store, "clock": clock, "connection_id": connection_id}
    async with open_client(site.url, upload("resumable"), **options) as client:
        given = SecretStr(token.reveal())
        with pytest.raises(BadInput, match="not as long"):
            await client.runtime.upload(connection_id, "put", DATA[1:], content_type="image/png", resume=given)
        result = await client.runtime.upload(connection_id, "put", path, content_type="image/png", resume=given)
    assert result.data == {"id": "f1"}
    assert len(drive.sessions) == 1
    assert drive.chunks[before].startswith("bytes */")
    assert bytes(drive.sessions["s0"]) == DATA


async def test_an_upload_with_a_key_goes_on_by_its_token_and_is_done_then(site):
    drive = Drive(site)
    drive.failures = [0, *[503] * 5]
    async with open_client(site.url, upload("resumable"), settings=CHUNK) as client:

        async def put(**options):
            return await client.runtime.upload(
                client.connection_id, "put", DATA, content_type="image/png", idempotency_key="once", **options
            )

        with pytest.raises(ProviderUnavailable) as caught:
            await put()
        drive.failures = []
        assert (await put(resume=caught.value.resume)).data == {"id": "f1"}
        assert (await put()).replayed
    assert len(drive.sessions) == 1
    assert bytes(drive.sessions["s0"]) == DATA


async def test_a_session_on_a_foreign_host_gets_nothing(site):
    """P35"""
    drive = Drive(site)
    drive.url = "http://127.0.0.1:9"
    async with open_client(site.url, upload("resumable")) as client:
        with pytest.raises(EgressDenied, match="only to its own hosts"):
            await client.runtime.upload(client.connection_id, "put", DATA, content_type="image/png")


class Tus:
    """A tus server."""

    def __init__(self, site: Site) -> None:
        self.held = bytearray()
        self.metadata = ""
        site.on("/api/upload")(self.create)
        site.on("/api/tus/1")(self.change)

    async def create(self, request: web.Request) -> web.Response:
        assert request.headers["Tus-Resumable"] == "1.0.0"
        assert request.headers["Upload-Length"] == str(len(DATA))
        self.metadata = request.headers["Upload-Metadata"]
        return web.Response(status=201, headers={"Location": "/api/tus/1"})

    async def change(self, request: web.Request) -> web.Response:
        if request.method == "PATCH":
            assert request.headers["Content-Type"] == "application/offset+octet-stream"
            assert int(request.headers["Upload-Offset"]) == len(self.held)
            async for piece in request.content.iter_any():
                self.held += piece
        status = 204 if request.method == "PATCH" else 200
        return web.Response(status=status, headers={"Upload-Offset": str(len(self.held))})


async def test_tus_creates_patches_and_asks_for_the_offset_after_a_cut(site):
    server = Tus(site)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["up"] = 120_000
        url = f"http://127.0.0.1:{proxy.port}"
        async with open_client(url, upload("tus"), settings={"transport.file.chunk": 80_000}) as client:
            result = await client.runtime.upload(client.connection_id, "put", DATA, {"name": "é"}, filename="a.bin")
    assert bytes(server.held) == DATA
    assert result.data == {"url": f"{url}/api/tus/1"}
    assert server.metadata == "filename YS5iaW4=,filetype YXBwbGljYXRpb24vb2N0ZXQtc3RyZWFt,name w6k="
