"""The routes as resources of an aiohttp application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientError, web
from multidict import CIMultiDict

from go_services_core import Runtime
from go_services_core.config import Config
from go_services_core.http import HttpResponse
from go_services_core.web.request import ClientGone, WebRequest, below
from go_services_core.web.routes import answer
from go_services_core.web.site import Site

Opened = Callable[[], Runtime]


def setup(
    app: web.Application, source: Runtime | str | Path | Config | None = None, *, prefix: str = "", **options: Any
) -> Site:
    """Add the routes to ``app``, which may be a sub-application.

    Args:
        app: not started yet.
        source: a configuration as for ``Runtime.open``, which is opened with the application and closed with it; or a
            ``Runtime`` that is open for as long as the application serves.
        prefix: path below which the routes are, such as ``/integrations``.
        options: as for :class:`~go_services_core.web.site.Site`, which is given back; ``scope_of`` gets the
            ``aiohttp.web.Request``.

    Raises:
        BadInput: an option cannot be used.
    """
    site = Site(**options)
    opened: list[Runtime] = []

    def use(runtime: Runtime) -> None:
        runtime.observe(site.failures, name=f"go_services.web.{id(site):x}")
        opened.append(runtime)

    if isinstance(source, Runtime):
        use(source)
    else:

        async def open_runtime(app: web.Application) -> AsyncGenerator[None]:
            async with Runtime.open(source) as runtime:
                use(runtime)
                yield
                opened.clear()

        app.cleanup_ctx.append(open_runtime)
    prefix = prefix.rstrip("/")
    for name in sorted(site.routes):
        handler = partial(_answer, lambda: opened[0], site, f"/{name}")
        app.router.add_route("*", f"{prefix}/{name}", handler)
        app.router.add_route("*", f"{prefix}/{name}{{rest:/.*}}", handler)
    return site


async def _answer(opened: Opened, site: Site, name: str, request: web.Request) -> web.Response:
    target = request.raw_path

    async def body() -> AsyncGenerator[bytes]:
        try:
            async for piece in request.content.iter_any():
                yield piece
        except (ClientError, ConnectionError) as error:
            raise ClientGone from error

    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    path = target.partition("?")[0]
    handed_on = WebRequest(
        method=request.method,
        target=target,
        path=below(path, name + request.match_info.get("rest", "")),
        headers=tuple((key, value) for key, value in request.headers.items()),
        body=body,
        scheme=request.scheme,
        peer_certificate=tls.getpeercert(binary_form=True) if tls is not None else None,
        native=request,
    )
    try:
        return _response(await answer(opened(), handed_on, site))
    except ClientGone:
        raise web.HTTPBadRequest from None  # nobody reads it


def _response(answered: HttpResponse) -> web.Response:
    response = web.Response(status=answered.status, body=answered.body, headers=CIMultiDict(answered.headers))
    if ("Connection", "close") in answered.headers:
        response.force_close()
    return response
