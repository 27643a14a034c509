"""Client certificates against real TLS servers: who is let in, over which connection, and what stays behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import ssl
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from attrs import evolve

from go_services_core.errors import (
    BadInput,
    ConnectFailed,
    EgressDenied,
    RequestTimeout,
    ServicesError,
    SigningError,
    TransportError,
)
from go_services_core.http import ClientCertificate, HttpRequest, HttpResponse
from go_services_core.secret import SecretStr
from go_services_core.testing.rawserver import raw_server
from go_services_transport_http import tls
from go_services_transport_http.failures import typed
from go_services_transport_http.pools import Exchange, exchange_under_way
from go_services_transport_http.transport import HttpTransport

from .certificates import blocking_server, chain, encrypted, fingerprint, fingerprinting, identity, server_context

Make = Callable[..., HttpTransport]
ALLOW = {"kit": ("localhost:*",)}
GONE = "the connection broke before the answer was complete"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Issues the server's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def clients() -> trustme.CA:
    """Issues those of the clients that the server lets in."""
    return trustme.CA()


@pytest.fixture
def mutual(make: Make, authority: trustme.CA, tmp_path: Path) -> Make:
    """Makes transports that trust the server."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return lambda **settings: make(allow=ALLOW, ca_file=path, **settings)


async def call(transport: HttpTransport, port: int, presented: ClientCertificate | None, **more: Any) -> HttpResponse:
    request = HttpRequest("GET", f"https://localhost:{port}/", (), **more).with_client_certificate(presented)
    return await transport.send(request, provider_id="kit")


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def contexts_alive() -> int:
    gc.collect()
    return sum(issubclass(type(each), ssl.SSLContext) for each in gc.get_objects())


async def refused(transport: HttpTransport, presented: ClientCertificate, port: int = 9) -> SigningError:
    with pytest.raises(SigningError) as caught:
        await call(transport, port, presented)
    assert caught.value.plugin == "transport-http"
    return caught.value


async def test_each_certificate_has_connections_of_its_own_and_keeps_them(
    mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    transport = mutual()
    one, two = clients.issue_cert("one@acme.example"), clients.issue_cert("two@acme.example")
    first, second = identity(one), identity(two)
    async with fingerprinting(server_context(authority, clients, required=False)) as server:
        for _ in range(3):  # in turn, so that each could take the connection that another has just given back
            assert (await call(transport, server.port, None)).body == b"none"
            assert (await call(transport, server.port, first)).body.decode() == fingerprint(one)
            assert (await call(transport, server.port, second)).body.decode() == fingerprint(two)
        assert server.connections == 3
        at_once = [call(transport, server.port, each) for each in (first, second, None) * 5]
        bodies = [answer.body.decode() for answer in await asyncio.gather(*at_once)]
        assert bodies == [fingerprint(one), fingerprint(two), "none"] * 5
        equal = identity(one)
        assert equal is not first
        before = server.connections
        assert (await call(transport, server.port, equal)).body.decode() == fingerprint(one)
        assert server.connections == before
    await transport.aclose()


async def test_requests_at_once_make_one_context(
    mutual: Make, authority: trustme.CA, clients: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[ClientCertificate] = []
    real = tls.present
    monkeypatch.setattr(
        "go_services_transport_http.identities.present", lambda *given: (made.append(given[0]), real(*given))[1]
    )
    transport = mutual()
    presented = identity(clients.issue_cert("one@acme.example"))
    async with fingerprinting(server_context(authority, clients)) as server:
        await asyncio.gather(*(call(transport, server.port, presented) for _ in range(20)))
        await call(transport, server.port, presented)
    assert made == [presented]
    await transport.aclose()


async def test_renewed_certificate_is_used_and_the_connections_of_the_old_are_closed(
    mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    transport = mutual(identity_idle=0.05)
    old, new = clients.issue_cert("one@acme.example"), clients.issue_cert("one@acme.example")
    async with fingerprinting(server_context(authority, clients)) as server:
        assert (await call(transport, server.port, identity(old))).body.decode() == fingerprint(old)
        assert (await call(transport, server.port, identity(new))).body.decode() == fingerprint(new)
        await asyncio.wait_for(server.hung_up.wait(), 10)
        assert (await call(transport, server.port, identity(new))).body.decode() == fingerprint(new)
    await transport.aclose()


async def test_only_so_many_certificates_are_kept_and_descriptors_stay_few(
    mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    transport = mutual(identities=4)
    descriptors, contexts = open_descriptors(), contexts_alive()
    async with fingerprinting(server_context(authority, clients)) as server:
        issued = clients.issue_cert("one@acme.example")
        several = [
            evolve(identity(issued, server_ca=authority), certificate=chain(issued) + "\n" * count)
            for count in range(200)
        ]
        for index, presented in enumerate(several):
            assert (await call(transport, server.port, presented)).body.decode() == fingerprint(issued)
            if index % 50 == 49:
                assert open_descriptors() - descriptors < 40
                assert contexts_alive() - contexts < 16
        assert server.connections == 200
        await call(transport, server.port, several[-1])
        assert server.connections == 200
        await call(transport, server.port, several[0])
        assert server.connections == 201
    await transport.aclose()


async def test_certificate_in_use_is_not_closed_under_its_request(
    mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    transport = mutual(identities=1, identity_idle=0.02)
    go = asyncio.Event()

    async def wait(request: bytes, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    first, second = (identity(clients.issue_cert(f"{name}@acme.example")) for name in ("one", "two"))
    async with raw_server(wait, context=server_context(authority, clients)) as server:
        slow = asyncio.ensure_future(call(transport, server.port, first))
        await asyncio.wait_for(server.arrived.wait(), 10)
        async with fingerprinting(server_context(authority, clients)) as other:
            await call(transport, other.port, second)
            await asyncio.wait_for(other.hung_up.wait(), 10)
        go.set()
        assert (await slow).body == b"ok"
    await transport.aclose()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_missing_and_foreign_certificates_are_refused_before_anything_is_read(
    mutual: Make, authority: trustme.CA, clients: trustme.CA, version: ssl.TLSVersion, method: str
) -> None:
    transport = mutual()
    foreign = identity(trustme.CA().issue_cert("one@acme.example"))
    with blocking_server(server_context(authority, clients, version=version)) as (port, read):
        for presented in (None, foreign):
            request = HttpRequest(
                method, f"https://localhost:{port}/?k=hunter2", (), b"x" if method == "POST" else None
            )
            with pytest.raises(ConnectFailed) as caught:
                await transport.send(request.with_client_certificate(presented), provider_id="kit")
            assert caught.value.sent is False
            assert "hunter2" not in str(caught.value)
            if presented is foreign or version is ssl.TLSVersion.TLSv1_3:
                assert "the server refuses the client certificate" in str(caught.value)
        assert read == []
        good = identity(clients.issue_cert("one@acme.example"))
        assert (await call(transport, port, good)).body == b"ok"
        assert len(read) == 1
    await transport.aclose()


async def test_server_that_hangs_up_without_an_alert_leaves_open_what_it_read(
    mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    transport = mutual()
    context = server_context(authority, clients, version=ssl.TLSVersion.TLSv1_3)
    foreign = identity(trustme.CA().issue_cert("one@acme.example"))
    async with fingerprinting(context) as server:
        with pytest.raises(TransportError) as caught:
            await call(transport, server.port, foreign)
        assert caught.value.sent is True
        assert GONE in str(caught.value)
        assert server.requests == []
    await transport.aclose()


@pytest.mark.parametrize("first", [True, False])
def test_alert_after_the_handshake_is_certain_only_for_the_first_request_of_tls_1_3(first: bool) -> None:
    """A server of TLS 1.2 may renegotiate, and ask for the certificate, when it has read the request."""
    exchange = Exchange("GET", "localhost:1", "kit", 1.0)
    exchange.sent, exchange.first_of_tls13 = True, first
    error = aiohttp.ClientOSError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)")
    told = typed(error, exchange)
    assert isinstance(told, TransportError)
    assert told.sent is not first
    assert isinstance(told, ConnectFailed) is first
    assert str(told) == "GET localhost:1: the server refuses the client certificate (unknown authority)."


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_the_first_request_of_a_connection_counts_as_such(
    mutual: Make, authority: trustme.CA, clients: trustme.CA, version: ssl.TLSVersion
) -> None:
    transport = mutual()
    presented = identity(clients.issue_cert("one@acme.example"))
    async with fingerprinting(server_context(authority, clients, version=version)) as server:
        for first in (True, False, False):
            await call(transport, server.port, presented)
            assert exchange_under_way.get().first_of_tls13 == (first and version is ssl.TLSVersion.TLSv1_3)
        assert server.connections == 1
    await transport.aclose()


async def test_time_and_closing_count_while_the_certificate_is_loaded(mutual: Make, clients: trustme.CA) -> None:
    transport = mutual()
    presented = identity(clients.issue_cert("one@acme.example"))
    go = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        executor.submit(go.wait, 10)
        with pytest.raises(RequestTimeout) as caught:
            await call(transport, 9, presented, timeout=0.05)
        assert caught.value.sent is False
        waiting = asyncio.ensure_future(call(transport, 9, presented))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(transport.aclose(grace=0))
        await asyncio.sleep(0)
        go.set()
        await closing
        with pytest.raises(TransportError, match="closed"):
            await waiting


async def test_server_is_verified_by_its_own_authorities_only(
    make: Make, mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    issued = clients.issue_cert("one@acme.example")
    other = trustme.CA()
    trusting, plain = mutual(), make(allow=ALLOW)
    async with fingerprinting(server_context(authority, clients)) as server:
        answer = await call(plain, server.port, identity(issued, server_ca=authority))
        assert answer.body.decode() == fingerprint(issued)
        for transport, presented in ((trusting, identity(issued, server_ca=other)), (plain, identity(issued))):
            with pytest.raises(ConnectFailed, match="certificate is not accepted"):
                await call(transport, server.port, presented)
        assert len(server.requests) == 1
    for transport in (trusting, plain):
        await transport.aclose()


async def test_tls_before_1_2_is_not_spoken(authority: trustme.CA, clients: trustme.CA) -> None:
    for server_ca in (None, authority):
        made = tls.present(identity(clients.issue_cert("one@acme.example"), server_ca=server_ca), None)
        assert isinstance(made, tls.Presented)
        assert made.context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert made.context.verify_mode == ssl.CERT_REQUIRED
        assert made.context.check_hostname


async def test_what_cannot_be_used_is_named_and_shows_nothing(mutual: Make, clients: trustme.CA) -> None:
    one, two = clients.issue_cert("one@acme.example"), clients.issue_cert("two@acme.example")
    good = identity(one)
    transport = mutual()
    now = datetime.now(UTC)
    ended = clients.issue_cert("one@acme.example", not_before=now - timedelta(9), not_after=now - timedelta(2))
    coming = clients.issue_cert("one@acme.example", not_before=now + timedelta(9), not_after=now + timedelta(99))
    locked = evolve(good, private_key=encrypted(one, "right"))
    junk = "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n"
    cases: list[tuple[ClientCertificate, str, str]] = [
        (evolve(good, certificate="hunter2"), "certificate", "no PEM certificate"),
        (evolve(good, certificate=junk.format("CERTIFICATE")), "certificate", "cannot be read"),
        (evolve(good, private_key=SecretStr("hunter2")), "private_key", "cannot be read"),
        (evolve(good, private_key=SecretStr("hunter2\ud800")), "private_key", "cannot be read"),
        (evolve(good, private_key=SecretStr(junk.format("PRIVATE KEY"))), "private_key", "cannot be read"),
        (evolve(good, private_key=identity(two).private_key), "private_key", "is not that of"),
        (locked, "passphrase", "there is no passphrase"),
        (evolve(locked, passphrase=SecretStr("hunter2")), "passphrase", "cannot be opened"),
        (evolve(locked, passphrase=SecretStr("hunter2" * 1000)), "passphrase", "does not fit"),
        (evolve(good, server_ca="hunter2"), "server_ca", "cannot be read"),
        (evolve(good, server_ca=" "), "server_ca", "are empty"),
        (identity(ended), "certificate", f"ended on {now - timedelta(2):%Y-%m-%d}"),
        (identity(coming), "certificate", f"begins only on {now + timedelta(9):%Y-%m-%d}"),
    ]
    for presented, field, text in cases:
        error = await refused(transport, presented)
        assert (error.field, text in str(error)) == (field, True), str(error)
        assert "hunter2" not in str(error.as_dict())
    await transport.aclose()


async def test_encrypted_key_is_opened_with_its_passphrase(
    mutual: Make, authority: trustme.CA, clients: trustme.CA
) -> None:
    transport = mutual()
    issued = clients.issue_cert("one@acme.example")
    locked = evolve(identity(issued), private_key=encrypted(issued, "right"), passphrase=SecretStr("right"))
    async with fingerprinting(server_context(authority, clients)) as server:
        assert (await call(transport, server.port, locked)).body.decode() == fingerprint(issued)
    await transport.aclose()


async def test_certificate_changes_nothing_about_where_requests_may_go(make: Make, clients: trustme.CA) -> None:
    transport = make(allow={"kit": ("127.0.0.1:80",)})
    presented = identity(clients.issue_cert("one@acme.example"))
    for url in ("https://127.0.0.1:81/", "https://localhost/", "https://10.0.0.1/"):
        with pytest.raises(EgressDenied):
            await transport.send(HttpRequest("GET", url, client_certificate=presented), provider_id="kit")
    with pytest.raises(BadInput, match="over https only"):
        await transport.send(
            HttpRequest("GET", "http://127.0.0.1:80/", client_certificate=presented), provider_id="kit"
        )
    await transport.aclose()


@pytest.mark.parametrize("in_memory", [True, False])
def test_key_is_in_no_file_that_stays_or_that_others_can_read(
    clients: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if in_memory and not hasattr(os, "memfd_create"):
        pytest.skip("the system has no memfd_create")
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    presented = identity(clients.issue_cert("one@acme.example"))
    seen: list[tuple[int, int]] = []
    real = ssl.SSLContext.load_cert_chain

    def look(context: ssl.SSLContext, path: str, **more: Any) -> None:
        at = Path(path)
        assert presented.private_key.reveal() in at.read_text()
        seen.append((at.stat().st_mode & 0o777, at.parent.stat().st_mode & 0o777))
        real(context, path, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    for each in (presented, evolve(presented, private_key=SecretStr("not a key"))):
        if each is not presented:
            monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", real)
        tls.present(each, None)
        assert list(tmp_path.iterdir()) == []
    if not in_memory:
        assert seen == [(0o600, 0o700)]
    assert len(seen) == 1


async def test_no_key_is_in_logs_errors_or_tracebacks_with_locals(
    mutual: Make, authority: trustme.CA, clients: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """P40, P41."""
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "aiohttp", "aiohttp.client", "aiohttp.internal", "go_services"):
        caplog.set_level(logging.DEBUG, name)
    asyncio.get_running_loop().set_debug(True)
    issued = clients.issue_cert("one@acme.example")
    good, foreign = identity(issued), identity(trustme.CA().issue_cert("one@acme.example"))
    locked = evolve(good, private_key=encrypted(issued, "right"), passphrase=SecretStr("hunter2hunter2"))
    mismatched = evolve(good, private_key=foreign.private_key)
    broken = evolve(good, private_key=SecretStr(good.private_key.reveal().replace("-----BEGIN", "--BEGIN")))
    transport = mutual()
    shown = ""
    failures = 0
    with blocking_server(server_context(authority, clients)) as (port, _):
        for presented in (good, foreign, locked, mismatched, broken):
            try:
                await call(transport, port, presented)
            except ServicesError as error:
                failures += 1
                shown += _everything(error)
            shown += repr(presented) + repr(HttpRequest("GET", "https://x", client_certificate=presented))
    await transport.aclose()
    assert failures == 4
    shown += caplog.text
    lines = [
        line
        for each in (good, foreign, locked)
        for line in each.private_key.reveal().splitlines()
        if len(line) > 20 and not line.startswith("--")
    ]
    assert [line for line in (*lines, "hunter2hunter2") if line in shown] == []


def _everything(error: BaseException | None) -> str:
    """What an error tracker could show: the chain with the locals of every frame."""
    text = ""
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        text += "".join(told.format(chain=False)) + repr(error.args)
        error = error.__cause__ or error.__context__
    return text
