from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from go_services_core.errors import ConfigError, ConnectFailed, RequestTimeout
from go_services_core.http import HttpRequest
from go_services_core.testing.rawserver import raw_server
from go_services_transport_http.transport import HttpTransport

Make = Callable[..., HttpTransport]
ALLOW = {"kit": ("localhost:*",)}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def failure(transport: HttpTransport, url: str) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await transport.send(HttpRequest("POST", url + "?key=hunter2", (), b"x"), provider_id="kit")
    await transport.aclose()
    assert caught.value.sent is False
    assert "hunter2" not in str(caught.value)
    return caught.value


async def test_authority_of_ca_file_is_trusted(make: Make, authority: trustme.CA, ca_file: Path) -> None:
    transport = make(allow=ALLOW, ca_file=ca_file)
    async with raw_server(context=server_context(authority, "localhost"), host="127.0.0.1") as server:
        answer = await transport.send(
            HttpRequest("GET", server.url(scheme="https", host="localhost")), provider_id="kit"
        )
        assert answer.status == 200
        assert f"Host: localhost:{server.port}" in server.lines()
    await transport.aclose()


async def test_certificate_for_another_host_is_refused(make: Make, authority: trustme.CA, ca_file: Path) -> None:
    async with raw_server(context=server_context(authority, "other.example"), host="127.0.0.1") as server:
        error = await failure(make(allow=ALLOW, ca_file=ca_file), server.url(scheme="https", host="localhost"))
        assert "certificate is not accepted" in str(error)
        assert not server.requests


async def test_unknown_authority_is_refused(make: Make, authority: trustme.CA) -> None:
    async with raw_server(context=server_context(authority, "localhost"), host="127.0.0.1") as server:
        error = await failure(make(allow=ALLOW), server.url(scheme="https", host="localhost"))
        assert "certificate is not accepted" in str(error)
        assert not server.requests


async def test_server_without_tls_is_connect_failed(make: Make, ca_file: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with raw_server(talk=plain) as server:
        error = await failure(make(allow=ALLOW), server.url(scheme="https", host="localhost"))
    assert "TLS failed" in str(error)


async def test_handshake_that_hangs_is_a_timeout_with_nothing_sent(make: Make) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    transport = make(allow=ALLOW, connect_timeout=0.1)
    async with raw_server(talk=silent) as server:
        url = server.url(scheme="https", host="localhost")
        for request in (HttpRequest("POST", url, (), b"x"), HttpRequest("POST", url, (), b"x", timeout=0.05)):
            with pytest.raises(RequestTimeout) as caught:
                await transport.send(request, provider_id="kit")
            assert caught.value.sent is False
    await transport.aclose()


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_unusable_ca_file_is_a_configuration_error(make: Make, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        make(ca_file=path)
    assert caught.value.field == "ca_file"
