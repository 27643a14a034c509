"""The routes: which path and method is answered by what."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from attrs import frozen

from ..errors import RequestRefused, ServicesError
from ..http import HttpResponse
from .answers import error_answer
from .connecting import callback, start
from .health import health, metrics
from .request import ClientGone, WebRequest
from .site import Site
from .status import status
from .surfaces import surface
from .webhooks import receive

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime

logger = logging.getLogger("go_services.web")
Handler: TypeAlias = Callable[..., Awaitable[HttpResponse]]
"""Called with the runtime, the request, the site and the parts of the path after the route's name."""


@frozen
class Answering:
    """One route."""

    handler: Handler
    methods: tuple[str, ...]
    fewest: int
    """Parts of the path after the route's name, at least."""
    most: int


ROUTES: Final[Mapping[str, Answering]] = {
    "connect": Answering(start, ("POST",), 1, 1),
    "callback": Answering(callback, ("GET", "POST"), 0, 1),
    "webhooks": Answering(receive, ("GET", "POST"), 1, 2),
    "surfaces": Answering(surface, ("GET", "POST"), 2, 2),
    "health": Answering(health, ("GET", "HEAD"), 0, 1),
    "metrics": Answering(metrics, ("GET",), 0, 0),
    "status": Answering(status, ("GET",), 0, 0),
}


async def answer(runtime: Runtime, request: WebRequest, site: Site) -> HttpResponse:
    """The answer to one request. Only ``ClientGone`` and cancellation are raised: then there is nobody to answer."""
    try:
        handler, parts = _found(request, site)
        return await handler(runtime, request, site, *parts)
    except ServicesError as error:
        return error_answer(request, error)
    except ClientGone:
        raise
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return error_answer(request, ServicesError("The request could not be answered."))


def begins_a_consent(request: WebRequest, site: Site) -> bool:
    """Whether the application will be asked whose connection it is to be."""
    return request.segments[:1] == ("connect",) and _exists("connect", site)


def _exists(name: str, site: Site) -> bool:
    return name in site.routes and name in ROUTES and (name != "connect" or site.scope_of is not None)


def _is_id(part: str) -> bool:
    """Whether it can be an id: not every database takes every character in a question."""
    return bool(part) and part.isprintable()


def _found(request: WebRequest, site: Site) -> tuple[Handler, tuple[Any, ...]]:
    """What answers the request.

    Raises:
        RequestRefused: 404 or 405.
    """
    name, *parts = request.segments or ("",)
    route = ROUTES[name] if _exists(name, site) else None
    if route is None or not route.fewest <= len(parts) <= route.most or not all(map(_is_id, parts)):
        raise RequestRefused("There is nothing here.", status=HTTPStatus.NOT_FOUND)
    if request.method not in route.methods:
        raise RequestRefused(
            f"{request.method} is not answered here.",
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            headers=(("Allow", ", ".join(route.methods)),),
        )
    return route.handler, tuple(parts)
