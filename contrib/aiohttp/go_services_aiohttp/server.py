"""A server of its own: the public routes on one address, metrics and status on another, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler, Middleware
from attrs import frozen

from go_services_core import Runtime
from go_services_core.config import Config
from go_services_core.errors import BadInput
from go_services_core.web.site import INTERNAL, PUBLIC

from .app import setup

logger = logging.getLogger("go_services.access")
DRAINING: Final = 0.2
"""Seconds for which what still comes of a refused body is read, so that the client reads the answer."""


@frozen(kw_only=True)
class Listening:
    """Where the server listens."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    path: Path | None = None
    """A Unix socket, in place of host and port."""
    reuse_port: bool = False
    """Whether several processes may listen there; the kernel spreads connections over them (``SO_REUSEPORT``)."""
    certificate: Path | None = None
    """PEM; with ``key`` the server speaks TLS."""
    key: Path | None = None
    client_ca: Path | None = None
    """PEM of the authorities of clients: a certificate that one of them made is asked for and handed to the schemes."""


@frozen(kw_only=True)
class Served:
    """A server that is ready."""

    runtime: Runtime
    url: str
    internal_url: str | None


class _Requests:
    """Those that are being answered.

    aiohttp's own way of stopping drops what still comes of their bodies (``RequestHandler.data_received``), so that
    they would never end.
    """

    def __init__(self) -> None:
        self._open = 0
        self._ending = False
        self._ended = asyncio.Event()

    @property
    def counted(self) -> Middleware:
        """The middleware that knows of them; while the server ends, each answer is the last of its connection."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._open += 1
            try:
                response = await handler(request)
                if self._ending:
                    response.force_close()
                return response
            finally:
                self._open -= 1
                if not self._open and self._ending:
                    self._ended.set()

        return count

    async def end(self, seconds: float) -> None:
        """Wait until none is open, so long at most."""
        self._ending = True
        if self._open:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)


@asynccontextmanager
async def served(
    config: Config,
    *,
    public: Listening,
    internal: Listening | None,
    grace: float,
    head_seconds: float,
    access_log: bool,
    **options: Any,
) -> AsyncGenerator[Served]:
    """Open the runtime and serve it; in the end stop accepting, finish requests for ``grace`` seconds, close.

    Args:
        config: of the runtime.
        public: where providers and browsers come.
        internal: where health, metrics and status are; None has none.
        grace: seconds that requests have to end.
        head_seconds: seconds for the head of a request, from the connection or the answer before it; then the
            connection is closed.
        access_log: whether each request is logged, without its query.
        options: as for :class:`~go_services_core.web.site.Site`.

    Raises:
        BadInput: an address cannot be listened on, or the certificate cannot be used; it names the option.
        ServicesError: as ``Runtime.open``.
    """
    tls = _tls(public)
    async with Runtime.open(config) as runtime:
        runners: list[web.AppRunner] = []
        requests = _Requests()
        try:
            options["head_seconds"] = head_seconds
            runners.append(await _listen(runtime, public, tls, requests, access_log, routes=PUBLIC, **options))
            if internal is not None:
                inner = {name: value for name, value in options.items() if name != "scope_of"}
                runners.append(await _listen(runtime, internal, None, requests, False, routes=INTERNAL, **inner))
            yield Served(
                runtime=runtime,
                url=_url(runners[0], public, tls),
                internal_url=None if internal is None else _url(runners[1], internal, None),
            )
        finally:
            for site in [site for runner in runners for site in runner.sites]:
                await site.stop()
            await requests.end(grace)
            for runner in runners:
                await runner.cleanup()


async def _listen(
    runtime: Runtime,
    place: Listening,
    tls: ssl.SSLContext | None,
    requests: _Requests,
    access_log: bool,
    *,
    head_seconds: float,
    **options: Any,
) -> web.AppRunner:
    app = web.Application(middlewares=[requests.counted])
    setup(app, runtime, **options)
    runner = web.AppRunner(
        app,
        access_log=logger if access_log else None,
        access_log_class=AccessLog,
        shutdown_timeout=DRAINING,
        auto_decompress=False,
        lingering_time=DRAINING,
        keepalive_timeout=head_seconds,  # which aiohttp counts from the connection on, and until a head is complete
    )
    await runner.setup()
    site: web.BaseSite
    if place.path is not None:
        site = web.UnixSite(runner, str(place.path), ssl_context=tls)
    else:
        site = web.TCPSite(runner, place.host, place.port, ssl_context=tls, reuse_port=place.reuse_port or None)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        where = place.path or f"{place.host}:{place.port}"
        raise BadInput(
            f"It is not possible to listen on {where}: {os.strerror(error.errno or 0)}.",
            hint="Choose another one with --host and --port, or serve.internal_port.",
            field="port",
        ) from error
    return runner


def _url(runner: web.AppRunner, place: Listening, tls: ssl.SSLContext | None) -> str:
    if place.path is not None:
        return f"unix:{place.path}"
    host, port = runner.addresses[0][:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if tls is None else 'https'}://{shown}:{port}"


def _tls(place: Listening) -> ssl.SSLContext | None:
    if place.certificate is None:
        if place.key is not None or place.client_ca is not None:
            raise BadInput("A key or client authorities need a certificate.", hint="Pass --cert.", field="cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(place.certificate, place.key)
        if place.client_ca is not None:
            context.load_verify_locations(place.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL  # browsers and other providers come without
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"The certificate cannot be used: {error.strerror or type(error).__name__}.",
            hint="--cert and --key are PEM files of one certificate and its key; --client-ca of authorities.",
            field="cert",
        ) from error
    return context


class AccessLog(AbstractAccessLogger):
    """One line for each request: without its query, which holds codes and states, and without its headers."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line."""
        path = request.path.encode("ascii", "backslashreplace").decode()
        shown = "".join(char if char.isprintable() else "?" for char in path)
        self.logger.info(
            "%s %s %s %d %d bytes %.1f ms",
            request.remote or "-",
            request.method,
            shown,
            response.status,
            response.body_length,
            time * 1000,
        )


def loop_factory() -> tuple[str, Callable[[], asyncio.AbstractEventLoop] | None]:
    """The name and the factory of the event loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return "asyncio", None
    return f"uvloop {version('uvloop')}", uvloop.new_event_loop
