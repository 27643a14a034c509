"""The ASGI 3 application, by itself or mounted in another (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias
from urllib.parse import quote

from go_services_core import Runtime
from go_services_core.config import Config
from go_services_core.errors import BadInput
from go_services_core.web.request import ClientGone, WebRequest, below
from go_services_core.web.routes import answer
from go_services_core.web.site import Site

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_UNESCAPED = "/:@!$&'()*+,;=~"


class GoServices(AbstractAsyncContextManager["GoServices"]):
    """The routes of go_services.

    An application of its own opens and closes the runtime with the server's lifespan. Mounted in another application,
    whose framework keeps the lifespan to itself, it is entered there: ``async with services: ...``.

    Args:
        source: a configuration as for ``Runtime.open``, which is opened and closed here; or a ``Runtime`` that is open
            for as long as the application serves.
        options: as for :class:`~go_services_core.web.site.Site`; ``scope_of`` gets the ASGI scope.

    Raises:
        BadInput: an option cannot be used.
    """

    def __init__(self, source: Runtime | str | Path | Config | None = None, **options: Any) -> None:
        self._source = source
        self._site = Site(**options)
        self._stack = AsyncExitStack()
        self._runtime: Runtime | None = None
        if isinstance(source, Runtime):
            self._use(source)

    @property
    def runtime(self) -> Runtime:
        """The runtime behind the routes.

        Raises:
            BadInput: it is not open.
        """
        if self._runtime is None:
            raise BadInput(
                "The runtime of GoServices is not open.",
                hint="Enter it in the lifespan of the application that it is mounted in: async with services.",
            )
        return self._runtime

    async def __aenter__(self) -> Self:
        if not isinstance(self._source, Runtime):
            self._use(await self._stack.enter_async_context(Runtime.open(self._source)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(self._source, Runtime):
            self._runtime = None
        await self._stack.aclose()

    def _use(self, runtime: Runtime) -> None:
        runtime.observe(self._site.failures, name=f"go_services.web.{id(self):x}")
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                response = await answer(self.runtime, _request(scope, receive), self._site)
            except ClientGone:
                return
            headers = [*response.headers, ("Content-Length", str(len(response.body)))]
            pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            await send({"type": "http.response.start", "status": response.status, "headers": pairs})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else response.body})
        else:  # a WebSocket: closing before accepting is a 403
            await receive()
            await send({"type": "websocket.close"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.__aenter__()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.__aexit__(None, None, None)
        await send({"type": "lifespan.shutdown.complete"})


def _request(scope: Scope, receive: Receive) -> WebRequest:
    raw = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"], _UNESCAPED)
    query = scope.get("query_string", b"").decode("latin-1")

    async def body() -> AsyncGenerator[bytes]:
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            if piece := message.get("body", b""):
                yield piece
            more = message.get("more_body", False)

    return WebRequest(
        method=scope["method"],
        target=f"{path}?{query}" if query else path,
        path=_below(path, scope),
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
        body=body,
        scheme=scope.get("scheme", "http"),
        peer_certificate=_certificate(scope),
        native=scope,
    )


def _below(path: str, scope: Scope) -> str:
    """The path below the mount. The path begins with ``root_path`` (ASGI 3); Litestar gives a mounted application the
    rest of ``path`` alone, with a slash at its end."""
    mount = quote(scope.get("root_path", "").rstrip("/"), _UNESCAPED)
    if mount and path.startswith(f"{mount}/"):
        return path[len(mount) :]
    rest = scope["path"]
    return below(path, rest if path.endswith("/") else rest.rstrip("/"))


def _certificate(scope: Scope) -> bytes | None:
    """The client's certificate, where the server has the TLS extension
    (https://asgi.readthedocs.io/en/latest/specs/tls.html)."""
    chain = (scope.get("extensions") or {}).get("tls", {}).get("client_cert_chain") or ()
    return next((ssl.PEM_cert_to_DER_cert(one) for one in chain), None)
