"""The transport: final requests out, answers in, on aiohttp with kept connections."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from go_services_core.errors import BadInput, BodyTooLarge, ConfigError, RequestTimeout, ServicesError, TransportError
from go_services_core.http import BodySource, Headers, HttpRequest, HttpResponse, check_header
from go_services_core.protocols import PluginEnv

from .failures import typed
from .guard import Guard, Pool, Route, denied
from .identities import Identities, Identity
from .pools import Connector, Exchange, NotPublic, exchange_under_way, note_refusal
from .settings import TransportSettings
from .tls import trust

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_.~!#$%&'*+^`|-]*")
_COMMON_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_UNSENDABLE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding"})
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_LARGE: Final = 2**20
"""Bytes above which aiohttp wants a body as a file, so that the loop is not held up while it is written."""
_REMEMBERED: Final = 1024


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
        if settings.connections_per_host < 0:
            raise ConfigError(
                "connections_per_host must not be below 0.", field="connections_per_host", plugin="transport-http"
            )
        if settings.user_agent is not None:
            check_header("User-Agent", settings.user_agent)
        self._settings = settings
        self._guard = Guard(env.egress_allow)
        self._trust = trust(settings)
        self._identities = Identities(
            limit=settings.identities, idle=settings.identity_idle, ca_file=settings.ca_file, now=env.clock.now
        )
        self._resolver = resolver
        self._known_limits: dict[float, aiohttp.ClientTimeout] = {}
        self._timeout = self._limits(settings.timeout)
        self._sessions: dict[Pool, aiohttp.ClientSession] = {}
        self._routes: dict[tuple[str, str, str], Route] = {}
        self._header_names: dict[str, str] = {}
        self._closed = False

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        """The answer, whatever its status; a compressed body is decompressed, the headers stay as they came.

        Raises:
            BadInput: the method, URL or a header cannot be sent as it is, or the request has a client certificate and
                its URL is not https; nothing was sent.
            SigningError: the request's client certificate cannot be used; nothing was sent.
            EgressDenied: the guard refuses the address; nothing was sent.
            ConnectFailed: the name does not resolve, nobody listens, or TLS failed; nothing was sent. So it is also
                where a server refuses the client certificate by an alert after the handshake of TLS 1.3: it reads no
                request before it has accepted the client (RFC 8446 §4.4.4). One that hangs up without a word leaves
                open why, which is a ``TransportError`` with ``sent``.
            RequestTimeout: over ``request.timeout``; ``sent`` is False while there was no connection yet.
            BodyTooLarge: the answer is over ``request.max_body``, counted after decompression.
            TransportError: anything else that ended the exchange.
        """
        url = _parse(request)
        try:
            route = self._routes.get((provider_id, url.scheme, url.raw_authority)) or self._route(provider_id, url)
            headers = self._headers(request, url)
            seconds = self._settings.timeout if request.timeout is None else request.timeout
            if seconds <= 0:
                raise RequestTimeout(f"{request.method} {route.origin}: no time is left.", sent=False)
            if request.client_certificate is not None and url.scheme != "https":
                raise BadInput("A client certificate is presented over https only.", field="url")
        except ServicesError:
            headers = ()  # here and below: a traceback with locals would show what is in them
            del url
            raise
        limit = self._settings.max_body if request.max_body is None else request.max_body
        body = request.body
        exchange = Exchange()
        exchange_under_way.set(exchange)
        stream: AsyncGenerator[bytes, None] | None = None
        data: Any = body
        if body is not None and not isinstance(body, bytes):
            data = stream = _stream(body, exchange)
            if body.length is not None:
                headers = (*headers, ("Content-Length", str(body.length)))
        elif body is not None and len(body) > _LARGE:
            data = BytesIO(body)
        failure: ServicesError
        identity: Identity | None = None
        response: aiohttp.ClientResponse | None = None
        try:
            if request.client_certificate is None:
                session = self._sessions.get(route.pool) or self._open(route.pool, self._sessions, self._trust)
            else:
                async with asyncio.timeout(seconds):
                    identity, presented = await self._identities.hold(request.client_certificate)
                session = identity.sessions.get(route.pool) or self._open(
                    route.pool, identity.sessions, presented.context
                )
            response = await session.request(
                request.method,
                url,
                headers=headers,
                data=data,
                allow_redirects=False,
                timeout=self._timeout if request.timeout is None else self._limits(seconds),
            )
            try:
                answer = await _read(response, limit)
            except BaseException:
                response.close()
                raise
            if answer is not None:
                received = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
                return HttpResponse(response.status, tuple(received), answer, request.url)
            response.close()
            failure = BodyTooLarge(
                f"{request.method} {route.origin}: the answer is larger than {limit} bytes.",
                hint="A request's max_body, or the setting max_body of the transport, raises the limit.",
            )
        except asyncio.CancelledError:
            # Closing the pool cancels those who wait for a connection, although nobody cancelled their task.
            task = asyncio.current_task()
            if not self._closed or task is None or task.cancelling():
                raise
            failure = TransportError(f"{request.method} {route.origin}: the transport was closed.", sent=exchange.sent)
        except (NotPublic, aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
            failure = typed(
                error, exchange, method=request.method, origin=route.origin, provider_id=provider_id, timeout=seconds
            )
        finally:
            if identity is not None:
                self._identities.release(identity)
            if stream is not None:
                with suppress(RuntimeError):  # its writer was cancelled just now and closes it
                    await stream.aclose()
        # Outside the handler: aiohttp's errors hold URLs with their queries and must not become this one's context.
        del url, headers, body, data, response
        raise failure

    async def aclose(self) -> None:
        """Close every connection; idempotent. A request under way ends in a ``TransportError``."""
        self._closed = True
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()
        await self._identities.aclose()

    def _open(
        self, pool: Pool, sessions: dict[Pool, aiohttp.ClientSession], trusted: ssl.SSLContext | bool
    ) -> aiohttp.ClientSession:
        if self._closed:
            raise TransportError("The transport is closed.", sent=False)
        session = sessions[pool] = aiohttp.ClientSession(
            connector=Connector(pool, self._settings, self._resolver(), trusted),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC,
            trust_env=False,
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

    def _route(self, provider_id: str, url: URL) -> Route:
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
        route = self._guard.check(provider_id, scheme, host or "", port or 0)
        if len(self._routes) >= _REMEMBERED:
            self._routes.clear()
        self._routes[provider_id, scheme, authority] = route
        return route

    def _headers(self, request: HttpRequest, url: URL) -> Headers:
        """The request's headers, checked; with the configured User-Agent where there is none."""
        names = self._header_names
        spelling: dict[str, str] = {}
        try:
            for name, value in request.headers:
                lowered = names.get(name)
                if lowered is None:
                    check_header(name, "")
                    if len(names) >= _REMEMBERED:
                        names.clear()
                    lowered = names[name] = name.lower()
                if spelling.setdefault(lowered, name) != name:
                    # aiohttp would keep only the last of them.
                    raise BadInput(f"The header {name} occurs in two spellings.", field=name)
                if not value.isprintable():
                    check_header(name, value)
                    if _UNSENDABLE.search(value):
                        raise BadInput(f"The value for header {name} holds a control character.", field=name)
                if lowered in _FRAMING:
                    _check_framing(lowered, value, request, url)
        except BadInput:
            value = ""  # or a traceback with locals shows it
            del url
            raise
        agent = self._settings.user_agent
        if agent is not None and "user-agent" not in spelling:
            return (*request.headers, ("User-Agent", agent))
        return request.headers


def _parse(request: HttpRequest) -> URL:
    """The request's URL as aiohttp will use it, byte for byte."""
    text, method = request.url, request.method
    if method not in _COMMON_METHODS and (method == "CONNECT" or not _METHOD.fullmatch(method)):
        raise BadInput("The method is not one that HTTP sends in capitals.", field="method")
    if not (text.isascii() and text.isprintable()) or " " in text or "\\" in text:
        del text  # or a traceback with locals shows it
        raise BadInput("The URL holds a character that must be percent-encoded.", field="url")
    url: URL | None = None
    with suppress(ValueError):
        url = URL(text, encoded=True)
    if url is None:
        del text
        raise BadInput("The URL cannot be read.", field="url")
    return url


def _check_framing(name: str, value: str, request: HttpRequest, url: URL) -> None:
    """Refuse a header that contradicts where the request goes or where its body ends."""
    if name == "host" and value.lower() not in {url.raw_authority.lower(), (url.host_port_subcomponent or "").lower()}:
        raise BadInput("The Host header is not the host of the URL.", field="Host")
    if name == "transfer-encoding":
        raise BadInput("The transport frames the body itself.", field="Transfer-Encoding")
    if name == "content-length":
        if not (request.body is None or isinstance(request.body, bytes)):
            raise BadInput("The length of a streamed body comes from its source.", field="Content-Length")
        if value != str(len(request.body or b"")):
            raise BadInput("The Content-Length is not the length of the body.", field="Content-Length")


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body, or None when it is larger than ``limit``. ``readany`` decompresses a bounded piece at a time."""
    content = response.content
    first = await content.readany()
    if content.at_eof():
        return first if len(first) <= limit else None
    pieces, size = [first], len(first)
    while size <= limit and not content.at_eof():
        piece = await content.readany()
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces) if size <= limit else None


async def _stream(source: BodySource, exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """The source's bytes, counted; whatever is wrong with them is noted, since aiohttp hides it."""
    given = 0
    opened = source.open()
    try:
        async for piece in opened:
            given += len(piece)
            if source.length is not None and given > source.length:
                break
            yield piece
    except Exception as error:
        exchange.body_problem = f"could not be read ({type(error).__name__})"
        raise
    finally:
        if isinstance(opened, AsyncGenerator):
            await opened.aclose()
    if source.length is not None and given != source.length:
        exchange.body_problem = f"is not as long as its source says ({source.length} bytes)"
        raise ValueError
