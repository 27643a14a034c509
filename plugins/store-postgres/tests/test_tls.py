"""TLS: what the settings make libpq check. A proxy speaks TLS, since the server of the wheel does not."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from go_services_core.errors import StoreUnavailable
from go_services_core.testing.postgres import PostgresServer
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore


class Certificates:
    """An authority, the server's certificate for ``localhost``, and a client's."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.authority)
        self.strange_authority = folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(self.strange_authority)
        client = authority.issue_cert("app@example.org")
        self.cert, self.key = folder / "client.pem", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o600)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.context)
        authority.configure_trust(self.context)


@asynccontextmanager
async def tls_in_front_of(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Answers the SSLRequest (https://www.postgresql.org/docs/current/protocol-flow.html), then passes bytes on."""
    serving: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == struct.pack("!ii", 8, 80877103)
            writer.write(b"S")
            await writer.start_tls(context)
            answers, upstream = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(copy(reader, upstream), copy(answers, writer))
            finally:
                upstream.transport.abort()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


async def attempt(
    server: PostgresServer, url: str, certificates: Certificates, host: str = "localhost", **settings: Any
) -> None:
    """Open a store over TLS and use it."""
    if server.own is None:
        pytest.skip("the server of the environment may speak TLS itself")
    async with tls_in_front_of(server.own.port, certificates.context) as port:
        address = urlsplit(url)._replace(netloc=f"postgres@{host}:{port}").geturl()
        store = PostgresStore(PostgresSettings(url=f"{address}?hostaddr=127.0.0.1", pool_timeout=2.0, **settings))
        try:
            await store.open()
            await store.connections.list()
        finally:
            await store.aclose()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_known_server_is_let_through(server: PostgresServer, url: str, certificates: Certificates) -> None:
    await attempt(server, url, certificates, sslmode="verify-full", sslrootcert=certificates.authority)


async def test_server_of_another_authority_is_refused(
    server: PostgresServer, url: str, certificates: Certificates
) -> None:
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await attempt(server, url, certificates, sslmode="verify-full", sslrootcert=certificates.strange_authority)


async def test_server_of_another_name_is_refused(server: PostgresServer, url: str, certificates: Certificates) -> None:
    wrong = {"host": "db.example", "sslrootcert": certificates.authority}
    with pytest.raises(StoreUnavailable, match="does not match host name"):
        await attempt(server, url, certificates, sslmode="verify-full", **wrong)
    await attempt(server, url, certificates, sslmode="verify-ca", **wrong)


async def test_client_certificate_is_shown(server: PostgresServer, url: str, certificates: Certificates) -> None:
    certificates.context.verify_mode = ssl.CERT_REQUIRED
    known = {"sslmode": "verify-full", "sslrootcert": certificates.authority}
    with pytest.raises(StoreUnavailable):
        await attempt(server, url, certificates, **known)
    await attempt(server, url, certificates, **known, sslcert=certificates.cert, sslkey=certificates.key)
