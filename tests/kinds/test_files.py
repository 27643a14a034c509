"""Files: streamed up and down, in one request or in several, through networks that cut."""

from __future__ import annotations

import os
import re
import stat
from email import message_from_bytes
from pathlib import Path

import pytest
from aiohttp import web
from attrs import evolve

from go_services_core import Operation, SecretStr
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BadInput,
    EgressDenied,
    IdempotencyMismatch,
    OutcomeUnknown,
    ProviderNotFoundAnswer,
    RedirectRefused,
    ResponseInvalid,
    ServicesError,
    TransportError,
)
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.proxy import tcp_proxy
from go_services_core.transport_specs import File

from .conftest import DATA, LeapingClock, Site, open_client, upload

ONCE = RetryPolicy(attempts=1)


DOWNLOAD = Operation("get", "GET", "/file", call=File(direction="download"))


def echo(site: Site) -> None:
    @site.on("/api/upload")
    async def up(request: web.Request) -> web.Response:
        return web.json_response({"size": len(await site.note(request))})


async def test_a_raw_upload_is_the_file_with_its_length_and_type(site, tmp_path):
    echo(site)
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    told: list[tuple[int, int | None]] = []
    async with open_client(site.url, upload("raw")) as client:
        result = await client.runtime.upload(
            client.connection_id, "put", path, content_type="image/png", progress=lambda *done: told.append(done)
        )
    _, _, headers, body = site.requests[0]
    assert body == DATA
    assert result.data == {"size": len(DATA)}
    assert headers["Content-Length"] == str(len(DATA))
    assert headers["Content-Type"] == "image/png"
    assert headers["Authorization"] == "Bearer tok-of-the-connection"
    assert told == sorted(told)
    assert told[-1] == (len(DATA), len(DATA))
    assert len(told) > 1


async def test_a_form_has_its_fields_and_the_file_with_names_that_cannot_break_out(site):
    echo(site)
    async with open_client(site.url, upload("form", part="asset")) as client:
        await client.runtime.upload(
            client.connection_id,
            "put",
            DATA,
            {"name": "é\r\nx", "size": 3},
            filename='a"\r\nb.png',
            content_type="image/png",
        )
    _, _, headers, body = site.requests[0]
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + body).get_payload()
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["name", "size", "asset"]
    assert [part.get_payload(decode=True) for part in parts] == ["é\r\nx".encode(), b"3", DATA]
    assert b'filename="a%22%0D%0Ab.png"\r\nContent-Type: image/png\r\n' in body
    assert headers["Content-Length"] == str(len(body))
    boundary = re.fullmatch(r"multipart/form-data; boundary=([0-9a-f]{48})", headers["Content-Type"])[1]
    assert body.endswith(f"--{boundary}--\r\n".encode())


async def test_related_has_json_and_then_the_file(site):
    echo(site)
    async with open_client(site.url, upload("related")) as client:
        await client.runtime.upload(client.connection_id, "put", DATA, {"name": "a"}, content_type="image/png")
    _, _, headers, body = site.requests[0]
    parts = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body).get_payload()
    assert headers["Content-Type"].startswith("multipart/related; boundary=")
    assert [part.get_content_type() for part in parts] == ["application/json", "image/png"]
    assert [part.get_payload(decode=True) for part in parts] == [b'{"name":"a"}', DATA]


async def test_an_upload_carries_the_key_in_the_header_of_its_record(site):
    echo(site)
    operation = evolve(upload("raw"), idempotency_header="X-Request-Key")
    async with open_client(site.url, operation) as client:
        await client.runtime.upload(client.connection_id, "put", b"x", idempotency_key="k-1")
        await client.runtime.upload(client.connection_id, "put", b"x")
    assert [headers.get("X-Request-Key") for _, _, headers, _ in site.requests] == ["k-1", None]


async def test_an_upload_is_not_repeated_after_a_cut(site):
    """P81"""
    echo(site)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["up"] = 100_000
        async with open_client(f"http://127.0.0.1:{proxy.port}", upload("raw")) as client:
            with pytest.raises(OutcomeUnknown):
                await client.runtime.upload(client.connection_id, "put", DATA)
    assert proxy.connections == 1


async def test_an_upload_with_a_key_is_made_once_and_its_repetition_has_its_result(site, tmp_path):
    echo(site)
    path = tmp_path / "a.bin"
    path.write_bytes(DATA)
    async with open_client(site.url, upload("raw")) as client:
        first, second = [
            await client.runtime.upload(client.connection_id, "put", path, idempotency_key="once", progress=progress)
            for progress in (None, lambda *done: None)
        ]
        assert (first.data, first.replayed) == (second.data, False)
        assert (second.replayed, second.idempotency_key) == (True, "once")
        with pytest.raises(IdempotencyMismatch):
            await client.runtime.upload(client.connection_id, "put", DATA[:-1], idempotency_key="once")
    assert len(site.requests) == 1


async def test_an_upload_whose_record_is_keyed_has_a_key(site):
    echo(site)
    keyed = evolve(upload("raw"), keyed=True, idempotency_header="Idempotency-Key")
    async with open_client(site.url, keyed) as client:
        result = await client.runtime.upload(client.connection_id, "put", DATA)
    assert site.requests[0][2]["Idempotency-Key"] == result.idempotency_key


async def test_an_upload_with_a_key_that_was_cut_is_not_made_again_by_itself(site):
    echo(site)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["up"] = 100_000
        async with open_client(f"http://127.0.0.1:{proxy.port}", upload("raw")) as client:
            for _ in range(2):
                with pytest.raises(OutcomeUnknown) as caught:
                    await client.runtime.upload(client.connection_id, "put", DATA, idempotency_key="once")
                assert caught.value.metadata["idempotency_key"] == "once"
    assert proxy.connections == 1


class Flowing:
    """A source that can be opened once."""

    length = None
    once = True

    def __init__(self) -> None:
        self.opened = 0

    async def open(self):
        self.opened += 1
        yield DATA[:1000]


async def test_a_source_that_can_be_opened_once_is_not_sent_to_where_a_redirect_leads(site):
    echo(site)

    @site.on("/api/old")
    async def moved(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=307, headers={"Location": "/api/upload"})

    old = evolve(upload("raw"), path="/old")
    source = Flowing()
    async with open_client(site.url, old) as client:
        with pytest.raises(RedirectRefused, match="only once"):
            await client.runtime.upload(client.connection_id, "put", source)
        assert (source.opened, site.requests) == (1, [])
        await client.runtime.upload(client.connection_id, "put", DATA)
    assert len(site.requests) == 1


class Once:
    """A source without a length."""

    length = None

    async def open(self):
        yield DATA[:1000]
        yield DATA[1000:]


async def test_a_source_of_unknown_length_is_sent_in_chunks_of_http(site):
    echo(site)
    resumable = Operation("r", "POST", "/upload", call=File(direction="upload", protocol="resumable"))
    async with open_client(site.url, upload("raw"), resumable) as client:
        await client.runtime.upload(client.connection_id, "put", Once())
        with pytest.raises(BadInput, match="length"):
            await client.runtime.upload(client.connection_id, "r", Once())
    assert site.requests[0][3] == DATA
    assert len(site.requests) == 1


# --- downloads -----------------------------------------------------------------------------------------------------


class Shelf:
    """Serves one file, whole or from a byte on."""

    def __init__(self, site: Site, *, etag: str | None = '"v1"', ranges: bool = True) -> None:
        self.data = DATA
        self.etag = etag
        self.ranges = ranges
        self.asked: list[str | None] = []
        self.status: list[int] = []
        site.on("/api/file")(self.get)

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("Range"))
        if self.status and (status := self.status.pop(0)):
            return web.Response(status=status)
        begin, found = 0, re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        headers = {"Content-Type": "application/pdf"}
        if self.etag is not None:
            headers["ETag"] = self.etag
        if found and self.ranges and request.headers["If-Range"] == self.etag:
            begin = int(found[1])
            headers["Content-Range"] = f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}"
        answer = web.StreamResponse(status=206 if begin else 200, headers=headers)
        answer.content_length = len(self.data) - begin
        await answer.prepare(request)
        for start in range(begin, len(self.data), 16384):
            await answer.write(self.data[start : start + 16384])
        return answer


async def test_a_download_is_complete_and_readable_by_its_owner_alone(site, tmp_path):
    Shelf(site)
    target = tmp_path / "file.pdf"
    target.write_text("old")
    told: list[tuple[int, int | None]] = []
    async with open_client(site.url, DOWNLOAD) as client:
        result = await client.runtime.download(
            client.connection_id, "get", target, progress=lambda *done: told.append(done)
        )
    assert target.read_bytes() == DATA
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]
    assert result.data == {"size": len(DATA), "content_type": "application/pdf", "etag": '"v1"'}
    assert told[-1] == (len(DATA), len(DATA))


async def test_a_cut_download_goes_on_where_it_was_cut(site, tmp_path):
    shelf = Shelf(site)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["down"], proxy.delay = 150_000, 0.02
        async with open_client(f"http://127.0.0.1:{proxy.port}", DOWNLOAD) as client:
            await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA
    assert shelf.asked[0] is None
    assert all(asked is not None for asked in shelf.asked[1:])
    assert len(shelf.asked) >= 3


@pytest.mark.parametrize("change", [{"etag": None}, {"etag": 'W/"v1"'}, {"ranges": False}])
async def test_without_a_strong_validator_or_ranges_a_cut_download_begins_anew(site, tmp_path, change):
    shelf = Shelf(site, **change)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["down"] = 90_000
        proxy.watch = lambda number, way, data: number == 2 and bool(proxy.limits.pop("down", None)) and False
        async with open_client(f"http://127.0.0.1:{proxy.port}", DOWNLOAD) as client:
            await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA
    assert len(shelf.asked) == 2


async def test_a_file_that_changed_meanwhile_is_read_from_the_beginning(site, tmp_path):
    shelf = Shelf(site)
    port = int(site.url.rpartition(":")[2])
    new = os.urandom(50_000)

    def watch(number: int, way: str, data: bytes) -> bool:
        if number == 2:
            proxy.limits.clear()
            shelf.data, shelf.etag = new, '"v2"'
        return False

    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["down"] = 90_000
        proxy.watch = watch
        async with open_client(f"http://127.0.0.1:{proxy.port}", DOWNLOAD) as client:
            result = await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == new
    assert result.data["size"] == len(new)


async def test_a_download_that_ends_leaves_no_target_and_another_process_goes_on(site, tmp_path):
    shelf = Shelf(site)
    clock = LeapingClock()
    store = MemoryStore(clock=clock)
    target = tmp_path / "f"
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["down"], proxy.delay = 150_000, 0.02
        url = f"http://127.0.0.1:{proxy.port}"
        shelf.status = [0, *[503] * 5]
        async with open_client(
            url, DOWNLOAD, store=store, clock=clock, settings={"transport.file.failures": 1}
        ) as client:
            with pytest.raises(ServicesError) as caught:
                await client.runtime.download(client.connection_id, "get", target)
            connection_id = client.connection_id
        token = SecretStr(caught.value.resume.reveal())
        (part,) = tmp_path.iterdir()
        assert not target.exists()
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        assert DATA.startswith(part.read_bytes())
        assert part.stat().st_size > 0
        proxy.limits.clear()
        shelf.status = []
        shelf.asked.clear()
        have = part.stat().st_size
        async with open_client(url, DOWNLOAD, store=store, clock=clock, connection_id=connection_id) as client:
            await client.runtime.download(connection_id, "get", target, resume=token)
    assert shelf.asked == [f"bytes={have}-"]
    assert target.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [target]


async def test_a_download_that_cannot_go_on_leaves_nothing(site, tmp_path):
    shelf = Shelf(site)
    shelf.status = [404]
    async with open_client(site.url, DOWNLOAD) as client:
        with pytest.raises(ProviderNotFoundAnswer) as caught:
            await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert caught.value.resume is None
    assert list(tmp_path.iterdir()) == []


async def test_a_range_that_was_not_asked_for_is_refused(site, tmp_path):
    @site.on("/api/file")
    async def get(request: web.Request) -> web.Response:
        return web.Response(status=206, body=b"x", headers={"Content-Range": "bytes 5-5/9"})

    async with open_client(site.url, DOWNLOAD) as client:
        with pytest.raises(ResponseInvalid, match="another part"):
            await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


async def test_a_partial_file_is_not_written_through_a_link(site, tmp_path, monkeypatch):
    Shelf(site)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    async with open_client(site.url, DOWNLOAD) as client:
        random = client.runtime._core.clock.random
        monkeypatch.setattr(
            type(client.clock), "random", lambda self, size: b"\1" * size if size == 8 else random(size)
        )
        (tmp_path / f".f.{'01' * 8}.part").symlink_to(victim)
        with pytest.raises(BadInput, match="cannot be written"):
            await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("target", ["text", Path("/nowhere/at/all"), Path("/tmp")])
async def test_a_target_that_cannot_be_is_refused_before_anything_is_sent(site, target):
    shelf = Shelf(site)
    async with open_client(site.url, DOWNLOAD) as client:
        with pytest.raises(BadInput):
            await client.runtime.download(client.connection_id, "get", target)
    assert not shelf.asked


@pytest.mark.parametrize("source", ["text", Path("/nowhere"), 5])
async def test_a_source_that_cannot_be_read_is_refused_before_anything_is_sent(site, source):
    echo(site)
    async with open_client(site.url, upload("raw")) as client:
        with pytest.raises(BadInput):
            await client.runtime.upload(client.connection_id, "put", source)
    assert not site.requests


async def test_a_progress_that_raises_does_not_hurt_the_transfer(site, tmp_path, caplog):
    Shelf(site)
    echo(site)

    def broken(done: int, total: int | None) -> None:
        raise ValueError("of the application")

    async with open_client(site.url, DOWNLOAD, upload("raw")) as client:
        await client.runtime.upload(client.connection_id, "put", DATA, progress=broken)
        await client.runtime.download(client.connection_id, "get", tmp_path / "f", progress=broken)
    assert caplog.text.count("cannot be told any more") == 2


async def test_each_method_takes_operations_of_its_direction_alone(site, tmp_path):
    plain = Operation("plain", "GET", "/file")
    async with open_client(site.url, DOWNLOAD, upload("raw"), plain) as client:
        runtime, id = client.runtime, client.connection_id
        for wrong in ("get", "plain"):
            with pytest.raises(BadInput, match="not an upload"):
                await runtime.upload(id, wrong, b"x")
        for wrong in ("put", "plain"):
            with pytest.raises(BadInput, match="not a download"):
                await runtime.download(id, wrong, tmp_path / "f")
        with pytest.raises(BadInput, match=r"Runtime\.upload"):
            await client.call("put")
        with pytest.raises(BadInput, match=r"Runtime\.download"):
            await client.call("get")
    assert not site.requests
    assert list(tmp_path.iterdir()) == []


async def test_files_may_have_a_host_of_their_own_that_the_provider_declares(site, tmp_path):
    """GitHub's assets go to uploads.github.com."""
    Shelf(site)
    host = site.url.removeprefix("http://")
    elsewhere = Operation("get", "GET", "/file", call=File(direction="download", base_url=f"{site.url}/api"))
    async with open_client("http://127.0.0.1:9", elsewhere, hosts=(host,)) as client:
        await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    async with open_client("http://127.0.0.1:9", elsewhere) as client:
        with pytest.raises(EgressDenied, match="only to its own hosts"):
            await client.runtime.download(client.connection_id, "get", tmp_path / "g")


async def test_a_cut_is_an_error_where_every_attempt_is_cut_at_once(site, tmp_path):
    Shelf(site)
    port = int(site.url.rpartition(":")[2])
    async with tcp_proxy("127.0.0.1", port) as proxy:
        proxy.limits["down"] = 0
        async with open_client(
            f"http://127.0.0.1:{proxy.port}", DOWNLOAD, settings={"transport.file.failures": 2}
        ) as client:
            with pytest.raises(TransportError):
                await client.runtime.download(client.connection_id, "get", tmp_path / "f")
    assert list(tmp_path.iterdir()) == []
