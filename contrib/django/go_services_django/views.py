"""One view for all routes, in a blocking and an async form.

Both work on the loop of the process's ``BlockingRuntime``. The async one waits in a thread of its own, so that neither
Django's loop nor its one thread for synchronous code is held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from go_services_core.web.blocking import answer_blocking
from go_services_core.web.request import WebRequest, below

from .services import services


def view(request: HttpRequest, route: str, rest: str = "") -> HttpResponse:
    """Answer one of the routes; ``rest`` is what follows its name in the path."""
    known = services()
    answered = answer_blocking(known.runtime, _request(request, route, rest), known.site, _reader(request))
    response = HttpResponse(answered.body, status=answered.status)
    del response["Content-Type"]
    response["Content-Length"] = str(len(answered.body))
    for name, value in answered.headers:
        if name == "Set-Cookie":
            _set_cookie(response, value)
        elif name != "Connection":  # hop by hop: up to the server (PEP 3333)
            response[name] = value
    return response


async def async_view(request: HttpRequest, route: str, rest: str = "") -> HttpResponse:
    """The same for Django under ASGI."""
    return await asyncio.to_thread(view, request, route, rest)


exempt_view = csrf_exempt(view)
"""For what proves itself otherwise: a signature, or the state and the binding of a consent."""
exempt_async_view = csrf_exempt(async_view)


def _request(request: HttpRequest, route: str, rest: str) -> WebRequest:
    target = _target(request)
    return WebRequest(
        method=request.method or "GET",
        target=target,
        path=below(target.partition("?")[0], f"/{route}/{rest}" if rest else f"/{route}"),
        headers=tuple(request.headers.items()),
        scheme=request.scheme or "http",
        native=request,
    )


def _target(request: HttpRequest) -> str:
    """Path and query as they were received, where the server tells; Django keeps the decoded path only."""
    scope: dict[str, Any] = getattr(request, "scope", {})
    path = (scope.get("raw_path") or b"").decode("latin-1")
    query = request.META.get("QUERY_STRING", "")
    raw: str = request.META.get("RAW_URI") or request.META.get("REQUEST_URI") or ""
    if raw.startswith("/"):
        return raw
    return (path or quote(request.path, "/:@!$&'()*+,;=~")) + (f"?{query}" if query else "")


def _reader(request: HttpRequest) -> Callable[[int], bytes]:
    """Reads past ``DATA_UPLOAD_MAX_MEMORY_SIZE``, which is for forms; the limit is that of the site."""
    return lambda size: bytes(request.read(size))


def _set_cookie(response: HttpResponse, header: str) -> None:
    """Django has no other way to a cookie than by its parts."""
    pair, *parts = header.split("; ")
    name, _, value = pair.partition("=")
    flags = dict(part.partition("=")[::2] for part in parts)
    response.set_cookie(
        name,
        value,
        max_age=int(flags["Max-Age"]),
        path=flags["Path"],
        secure=True,
        httponly=True,
        samesite="None" if flags["SameSite"] == "None" else "Lax",
    )
