"""Connections: aiohttp's pool, with the guard's address checks and a mark for when a request may have left."""

from __future__ import annotations

import ssl
from contextvars import ContextVar
from socket import AddressFamily
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from .addresses import special_purpose_text
from .alerts import certificate_refusal
from .guard import Pool
from .settings import TransportSettings


class NotPublic(Exception):
    """An address of the host is not public. ``block`` says what it is; the address itself stays inside."""

    def __init__(self, block: str) -> None:
        super().__init__(block)
        self.block = block


class Exchange:
    """What is known about one request while it is under way."""

    __slots__ = (
        "body_problem",
        "first_of_tls13",
        "idle",
        "method",
        "origin",
        "provider_id",
        "refusal",
        "seconds",
        "sent",
    )

    def __init__(self, method: str, origin: str, provider_id: str, seconds: float, *, idle: bool = False) -> None:
        self.method = method
        self.origin = origin
        """``host:port``, for messages."""
        self.provider_id = provider_id
        self.seconds = seconds
        self.idle = idle
        """Whether ``seconds`` count anew with each piece of the answer."""
        self.sent = False
        """True from the moment that the request has a connection: from then on bytes may have left."""
        self.body_problem: str | None = None
        """Why the request's own body could not be read, when that is what ended the exchange."""
        self.refusal: str | None = None
        """Why the server refuses the client's certificate, when it said so after the handshake."""
        self.first_of_tls13 = False
        """Whether it is the first request on a connection of TLS 1.3, where the server may not yet have accepted the
        client."""


exchange_under_way: ContextVar[Exchange] = ContextVar("exchange_under_way")
"""Set by the transport in the task that sends; aiohttp connects in the same task."""


async def note_refusal(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Note an alert about the client's certificate: aiohttp forgets it when it repeats an idempotent request."""
    try:
        return await send(request)
    except aiohttp.ClientOSError as error:
        exchange_under_way.get().refusal = certificate_refusal(error)
        raise


class PublicResolver(AbstractResolver):
    """Refuses a host when any of its addresses is not public, so that nothing depends on which one is tried first."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not found:
            raise OSError(None, "the name has no address")
        for result in found:
            if block := special_purpose_text(result["host"]):
                raise NotPublic(block)
        return found

    async def close(self) -> None:
        await self._inner.close()


class Connector(aiohttp.TCPConnector):
    """A pool whose connections lead where the guard said.

    The addresses that the resolver let through are the ones dialled, so a second look-up cannot change them; the peer
    of each connection is checked once more before it carries a request.
    """

    def __init__(
        self, pool: Pool, settings: TransportSettings, resolver: AbstractResolver, trust: ssl.SSLContext | bool
    ) -> None:
        public = pool == "public"
        super().__init__(
            # Those to a proxy lead where the settings say; what it is asked for was checked before.
            resolver=PublicResolver(resolver) if public else resolver,
            ssl=trust,
            limit=settings.connections,
            limit_per_host=settings.connections_per_host,
            keepalive_timeout=settings.keepalive,
        )
        self._public = public
        self._used: WeakSet[ResponseHandler] = WeakSet()
        """The connections that have had a request."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        exchange = exchange_under_way.get()
        if exchange.sent:
            # aiohttp repeats idempotent requests by itself; a signed request goes out once, and who sent it decides.
            raise aiohttp.ClientConnectionError("the connection broke")
        connection = await super().connect(req, traces, timeout)
        if self._public:
            try:
                check_peer(connection)
            except BaseException:
                connection.close()
                raise
        exchange.sent = True
        protocol, transport = connection.protocol, connection.transport
        if protocol is not None and transport is not None and protocol not in self._used:
            self._used.add(protocol)
            secured = transport.get_extra_info("ssl_object")
            exchange.first_of_tls13 = secured is not None and secured.version() == "TLSv1.3"
        return connection


def check_peer(connection: Connection) -> None:
    """Refuse a connection whose other end is not public.

    Raises:
        NotPublic: it is not.
        ClientConnectionError: the connection has ended meanwhile.
    """
    transport = connection.transport
    peer = transport and transport.get_extra_info("peername")
    if not peer:
        raise aiohttp.ClientConnectionError("the connection has no peer")
    if block := special_purpose_text(peer[0]):
        raise NotPublic(block)
