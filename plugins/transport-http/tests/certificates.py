"""Certificates of a test, and a TLS server that wants one from its clients."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import trustme
from cryptography.hazmat.primitives import serialization

from go_services_core.http import ClientCertificate
from go_services_core.secret import SecretStr
from go_services_core.testing.rawserver import RawServer, http_answer, raw_server


def identity(issued: trustme.LeafCert, *, server_ca: trustme.CA | None = None) -> ClientCertificate:
    return ClientCertificate(
        certificate=chain(issued),
        private_key=SecretStr(issued.private_key_pem.bytes().decode()),
        server_ca=server_ca.cert_pem.bytes().decode() if server_ca is not None else None,
    )


def chain(issued: trustme.LeafCert) -> str:
    return b"".join(part.bytes() for part in issued.cert_chain_pems).decode()


def encrypted(issued: trustme.LeafCert, passphrase: str) -> SecretStr:
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(passphrase.encode())
    return SecretStr(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked).decode())


def fingerprint(issued: trustme.LeafCert) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())).hexdigest()


def server_context(
    server: trustme.CA, clients: trustme.CA | None, *, required: bool = True, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.issue_cert("localhost").configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@asynccontextmanager
async def fingerprinting(context: ssl.SSLContext) -> AsyncIterator[RawServer]:
    """Answers each request with the fingerprint of the certificate that its connection presented."""

    async def tell(request: bytes, writer: asyncio.StreamWriter) -> None:
        presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(http_answer(200, hashlib.sha256(presented).hexdigest().encode() if presented else b"none"))
        await writer.drain()

    async with raw_server(tell, context=context) as server:
        yield server


@contextmanager
def blocking_server(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A server that says by an alert why it refuses a client, which asyncio's does not; its port and what it read."""
    listener = socket.create_server(("127.0.0.1", 0))
    read: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            with (
                suppress(OSError),
                context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured,
            ):
                try:
                    secured.do_handshake()
                except ssl.SSLError:
                    # A connection that is closed with bytes unread is reset, and the reset can overtake the alert.
                    secured.shutdown(socket.SHUT_WR)
                    while secured.recv(65536):
                        pass
                    continue
                read.append(secured.recv(65536))
                secured.sendall(http_answer(200, b"ok"))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], read
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
