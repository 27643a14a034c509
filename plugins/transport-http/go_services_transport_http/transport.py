"""The transport: final requests out, answers in, on aiohttp with kept connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from io import BytesIO
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from attrs import frozen
from yarl import URL

from go_services_core.errors import BadInput, ConfigError, RequestTimeout, ServicesError, TransportError
from go_services_core.http import Headers, HttpRequest, HttpResponse, StreamedResponse, check_header
from go_services_core.protocols import PluginEnv

from .answers import TooLarge, Undecodable, pieces, read
from .failures import cut_off, proxy_refusal, typed
from .guard import Guard, Pool, denied
from .identities import Identities, Identity
from .outgoing import HeaderCheck, parse_url, upload
from .pools import Connector, Exchange, NotPublic, exchange_under_way, note_refusal
from .proxies import Proxies, Proxy, Targets
from .settings import TransportSettings
from .tls import trust

_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_LARGE: Final = 2**20
"""Bytes above which aiohttp wants a body as a file, so that the loop is not held up while it is written."""
_REMEMBERED: Final = 1024
_FAILURES: Final = (NotPublic, TooLarge, Undecodable, aiohttp.ClientError, OSError, ValueError, RuntimeError)
"""What ends an exchange; ``typed`` knows what it means."""


@frozen
class _Way:
    """How requests of one provider get to one origin; the guard has consented."""

    pool: Pool
    origin: str
    proxy: Proxy | None
    asks_proxy: tuple[str, int] | None
    """The name that the proxy will look up, and that is looked up here first; None where there is no need."""


class _Outgoing:
    """One request that passed every check, and what it holds until its answer was read."""

    __slots__ = ("body", "certificate", "exchange", "headers", "identity", "method", "upload", "url", "way")

    def __init__(self, request: HttpRequest, url: URL, headers: Headers, way: _Way, exchange: Exchange) -> None:
        self.method = request.method
        self.url = url
        self.headers = headers
        self.certificate = request.client_certificate
        self.way = way
        self.exchange = exchange
        self.identity: Identity | None = None
        self.upload: AsyncGenerator[bytes, None] | None = None
        body = request.body
        self.body: Any = body
        if body is not None and not isinstance(body, bytes):
            self.body = self.upload = upload(body, exchange)
            if body.length is not None:
                self.headers = (*headers, ("Content-Length", str(body.length)))
        elif body is not None and len(body) > _LARGE:
            self.body = BytesIO(body)


def open_transport(settings: TransportSettings, env: PluginEnv) -> HttpTransport:
    """The transport with the guard's allowances from ``env.egress_allow``. It opens nothing before the first request.

    Raises:
        ConfigError: a setting or an allowance cannot be used.
    """
    return HttpTransport(settings, env)


class HttpTransport:
    """Sends each request once, to where the egress guard lets its provider, and follows no redirect.

    What HTTP itself needs (``Host``, ``Content-Length`` or ``Transfer-Encoding``) is all that is added to a request.
    One instance belongs to one event loop.
    """

    def __init__(
        self,
        settings: TransportSettings,
        env: PluginEnv,
        *,
        resolver: Callable[[], AbstractResolver] = aiohttp.DefaultResolver,
    ) -> None:
        _check(settings)
        self._settings = settings
        self._guard = Guard(env.egress_allow)
        self._proxies = Proxies(settings)
        self._targets = Targets(resolver, env.clock.monotonic)
        self._trust = trust(settings)
        self._identities = Identities(
            limit=settings.identities, idle=settings.identity_idle, ca_file=settings.ca_file, now=env.clock.now
        )
        self._resolver = resolver
        self._known_limits: dict[float, aiohttp.ClientTimeout] = {}
        self._timeout = self._limits(settings.timeout)
        self._sessions: dict[Pool, aiohttp.ClientSession] = {}
        self._ways: dict[tuple[str, str, str], _Way] = {}
        self._headers = HeaderCheck(settings.user_agent)
        self._under_way = 0
        self._ended: asyncio.Event | None = None
        """Set when nothing is under way any more; there from the moment that the transport is closing."""
        self._cut = False
        """Whether the connections are closed, also those that were in use."""

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        """The answer, whatever its status; a compressed body is decompressed, the headers stay as they came.

        Raises:
            BadInput: the method, URL or a header cannot be sent as it is, or the request has a client certificate and
                its URL is not https; nothing was sent.
            SigningError: the request's client certificate cannot be used; nothing was sent.
            EgressDenied: the guard refuses the address; nothing was sent.
            ConnectFailed: the name does not resolve, nobody listens, TLS failed, or the proxy refuses; nothing was
                sent. So it is also where a server refuses the client certificate by an alert after the handshake of
                TLS 1.3: it reads no request before it has accepted the client (RFC 8446 §4.4.4). One that hangs up
                without a word leaves open why, which is a ``TransportError`` with ``sent``.
            RequestTimeout: over ``request.timeout``; ``sent`` is False while there was no connection yet.
            BodyTooLarge: the answer is over ``request.max_body``, counted after decompression, or grew beyond the
                setting ``max_expansion``.
            ResponseInvalid: the answer has a content coding that was not asked for, or several.
            TransportError: anything else that ended the exchange.
        """
        outgoing = self._checked(request, provider_id)
        seconds = outgoing.exchange.seconds
        limits = self._timeout if request.timeout is None else self._limits(seconds)
        limit = self._settings.max_body if request.max_body is None else request.max_body
        failure: ServicesError
        response: aiohttp.ClientResponse | None = None
        self._under_way += 1
        try:
            response = await self._answered(outgoing, limits)
            try:
                body = await read(response, limit=limit, expansion=self._settings.max_expansion)
            except BaseException:
                response.close()
                raise
            return HttpResponse(response.status, _received(response), body, request.url)
        except asyncio.CancelledError:
            if not self._is_cut():
                raise
            failure = cut_off(outgoing.exchange)
        except _FAILURES as error:
            failure = typed(error, outgoing.exchange)
        finally:
            self._end()
            if outgoing.identity is not None or outgoing.upload is not None:
                await self._let_go(outgoing)
        # Outside the handler: aiohttp's errors hold URLs with their queries and must not become this one's context.
        del outgoing, response
        raise failure

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, provider_id: str) -> AsyncGenerator[StreamedResponse]:
        """The answer while it comes; see :meth:`go_services_core.protocols.StreamTransport.stream`.

        Entering raises as :meth:`send`. At most 128 KiB are read ahead of who takes the pieces, and each has at most
        64 KiB once it is decompressed.
        """
        outgoing = self._checked(request, provider_id, idle=True)
        seconds = outgoing.exchange.seconds
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout, sock_read=seconds)
        failure: ServicesError | None = None
        response: aiohttp.ClientResponse | None = None
        self._under_way += 1
        try:
            try:
                async with asyncio.timeout(seconds):
                    response = await self._answered(outgoing, limits)
            except asyncio.CancelledError:
                if not self._is_cut():
                    raise
                failure = cut_off(outgoing.exchange)
            except _FAILURES as error:
                failure = typed(error, outgoing.exchange)
            if failure is None:
                assert response is not None
                async with aclosing(self._pieces(response, outgoing.exchange, request.max_body)) as body:
                    yield StreamedResponse(response.status, _received(response), request.url, body)
        finally:
            if response is not None:
                response.close()  # where the answer was read to its end, its connection is kept already
            self._end()
            await self._let_go(outgoing)
        if failure is not None:
            del outgoing, response
            raise failure

    async def _pieces(
        self, response: aiohttp.ClientResponse, exchange: Exchange, limit: int | None
    ) -> AsyncGenerator[bytes, None]:
        failure: ServicesError
        try:
            async with aclosing(pieces(response, limit=limit, expansion=self._settings.max_expansion)) as body:
                async for piece in body:
                    yield piece
            return
        except asyncio.CancelledError:
            if not self._is_cut():
                raise
            failure = cut_off(exchange)
        except _FAILURES as error:
            failure = typed(error, exchange)
        response.close()
        raise failure

    async def aclose(self, grace: float | None = None) -> None:
        """Take no more requests, let those under way end for ``grace`` seconds, and close every connection; idempotent.

        ``grace`` None is the setting ``close_grace``. A request that is then still under way ends in a
        ``TransportError``.
        """
        seconds = self._settings.close_grace if grace is None else grace
        if self._ended is None:
            self._ended = asyncio.Event()
        if self._under_way and seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ended.wait()
        self._cut = True
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()
        await self._identities.aclose()
        await self._targets.aclose()

    # --- one request -------------------------------------------------------------------------------------------------

    def check_url(self, url: str, *, provider_id: str) -> None:
        """Refuse what the URL alone shows to be out of bounds; see :class:`go_services_core.egress.EgressGuarded`.

        Raises:
            BadInput: it is not a URL.
            EgressDenied: the guard does not let the provider there.
        """
        parsed = parse_url(HttpRequest("POST", url))
        self._guard.check_name(provider_id, parsed.scheme, parsed.raw_host or "", parsed.port or 0)

    def _checked(self, request: HttpRequest, provider_id: str, *, idle: bool = False) -> _Outgoing:
        """The request ready to be sent.

        Raises:
            BadInput, EgressDenied: it must not be.
            RequestTimeout: it has no time.
            TransportError: the transport is closed.
        """
        url = parse_url(request)
        try:
            way = self._ways.get((provider_id, url.scheme, url.raw_authority)) or self._way(provider_id, url)
            headers = self._headers(request, url)
            seconds = self._settings.timeout if request.timeout is None else request.timeout
            if seconds <= 0:
                raise RequestTimeout(f"{request.method} {way.origin}: no time is left.", sent=False)
            if request.client_certificate is not None:
                _check_presentable(url, way)
            if self._ended is not None:
                raise TransportError("The transport is closed.", sent=False)
        except ServicesError:
            headers = ()  # a traceback with locals would show what is in them
            del url
            raise
        exchange = Exchange(request.method, way.origin, provider_id, seconds, idle=idle)
        return _Outgoing(request, url, headers, way, exchange)

    async def _answered(self, outgoing: _Outgoing, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """The head of the answer."""
        way, exchange = outgoing.way, outgoing.exchange
        exchange_under_way.set(exchange)
        if way.asks_proxy is not None:
            async with asyncio.timeout(exchange.seconds):
                await self._targets.require_public(*way.asks_proxy)
        if outgoing.certificate is None:
            session = self._sessions.get(way.pool) or self._open(way.pool, self._sessions, self._trust)
        else:
            async with asyncio.timeout(exchange.seconds):
                outgoing.identity, presented = await self._identities.hold(outgoing.certificate)
            sessions = outgoing.identity.sessions
            session = sessions.get(way.pool) or self._open(way.pool, sessions, presented.context)
        response = await session.request(
            outgoing.method,
            outgoing.url,
            data=outgoing.body,
            allow_redirects=False,
            timeout=limits,
            **_heading(outgoing),
        )
        if response.status == 407 and way.proxy is not None and outgoing.url.scheme == "http":
            response.close()
            del response  # or a traceback with locals shows its URL
            raise proxy_refusal(exchange, 407)
        return response

    def _is_cut(self) -> bool:
        """Whether the cancellation that is handled is none of the task.

        Closing the pool cancels those who wait for a connection, although nobody cancelled their task.
        """
        task = asyncio.current_task()
        return self._cut and task is not None and not task.cancelling()

    def _end(self) -> None:
        self._under_way -= 1
        if self._ended is not None and not self._under_way:
            self._ended.set()

    async def _let_go(self, outgoing: _Outgoing) -> None:
        if outgoing.identity is not None:
            self._identities.release(outgoing.identity)
        if outgoing.upload is not None:
            with suppress(RuntimeError):  # its writer was cancelled just now and closes it
                await outgoing.upload.aclose()

    # --- what requests share -----------------------------------------------------------------------------------------

    def _open(
        self, pool: Pool, sessions: dict[Pool, aiohttp.ClientSession], trusted: ssl.SSLContext | bool
    ) -> aiohttp.ClientSession:
        if self._cut:
            raise TransportError("The transport is closed.", sent=False)
        session = sessions[pool] = aiohttp.ClientSession(
            connector=Connector(pool, self._settings, self._resolver(), trusted),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC,
            trust_env=False,
            auto_decompress=False,
            middlewares=(note_refusal,),
        )
        return session

    def _limits(self, seconds: float) -> aiohttp.ClientTimeout:
        """Mostly the same few numbers, so that each is made once."""
        made = self._known_limits.get(seconds)
        if made is None:
            if len(self._known_limits) >= _REMEMBERED:
                self._known_limits.clear()
            made = aiohttp.ClientTimeout(total=seconds, sock_connect=self._settings.connect_timeout)
            self._known_limits[seconds] = made
        return made

    def _way(self, provider_id: str, url: URL) -> _Way:
        """Ask the guard, and remember its consent: it depends on nothing but provider, scheme and authority."""
        try:
            host, port = url.raw_host, url.port
        except ValueError:
            host = port = None
        authority = url.raw_authority
        if "@" in authority:
            raise denied(
                provider_id,
                f"{host}:{port}",
                "its URL holds a user name or password",
                hint="Send credentials in headers.",
            )
        if url.scheme in {"http", "https"} and (not host or port is None or ("[" in authority) != (":" in host)):
            raise BadInput("The URL has no usable host and port.", field="url")
        scheme = url.scheme
        del url
        host, port = host or "", port or 0
        route = self._guard.check(provider_id, scheme, host, port)
        proxy = self._proxies.of(provider_id)
        if proxy is None:
            way = _Way(route.pool, route.origin, None, None)
        else:
            asks_proxy = (host, port) if route.pool == "public" and not route.literal else None
            way = _Way("proxied", route.origin, proxy, asks_proxy)
        if len(self._ways) >= _REMEMBERED:
            self._ways.clear()
        self._ways[provider_id, scheme, authority] = way
        return way


def _check(settings: TransportSettings) -> None:
    for name in (
        "timeout",
        "connect_timeout",
        "max_body",
        "connections",
        "keepalive",
        "identities",
        "identity_idle",
    ):
        if not getattr(settings, name) > 0:
            raise ConfigError(f"{name} must be greater than 0.", field=name, plugin="transport-http")
    for name in ("connections_per_host", "close_grace"):
        if not getattr(settings, name) >= 0:
            raise ConfigError(f"{name} must not be below 0.", field=name, plugin="transport-http")
    if not settings.max_expansion >= 1:
        raise ConfigError("max_expansion must be at least 1.", field="max_expansion", plugin="transport-http")
    if settings.user_agent is not None:
        check_header("User-Agent", settings.user_agent)


def _check_presentable(url: URL, way: _Way) -> None:
    """Refuse a request whose client certificate nobody would see, or somebody else than its server."""
    if url.scheme != "https":
        raise BadInput("A client certificate is presented over https only.", field="url")
    if way.proxy is not None and way.proxy.url.scheme == "https":
        raise BadInput(
            "A client certificate is not presented through a proxy that is reached over TLS: it could ask for it too.",
            hint="Reach the proxy over http: what is sent through it is encrypted all the same.",
            field="client_certificate",
        )


def _heading(outgoing: _Outgoing) -> dict[str, Any]:
    """The headers, and the proxy with its own: those of CONNECT, unless it reads the request itself."""
    proxy = outgoing.way.proxy
    if proxy is None:
        return {"headers": outgoing.headers}
    if outgoing.url.scheme == "https":
        return {"headers": outgoing.headers, "proxy": proxy.url, "proxy_headers": proxy.headers}
    return {"headers": (*outgoing.headers, *proxy.headers), "proxy": proxy.url}


def _received(response: aiohttp.ClientResponse) -> Headers:
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers])
