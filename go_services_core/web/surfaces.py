"""``/surfaces/{surface}/{provider}``: commands and interactions, whose sender waits for the handler's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..errors import NotFound
from ..http import HttpResponse
from .answers import guarded
from .body import read_body
from .request import WebRequest
from .site import Site

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime
    from ..specs import SurfaceName


async def surface(runtime: Runtime, request: WebRequest, site: Site, name: str, provider_id: str) -> HttpResponse:
    """What the surface's handler answers; the surface ``webhook`` has a route of its own."""
    if name not in ("command", "interaction", "event_callback") or provider_id not in runtime.providers():
        raise NotFound("Nobody answers here.")
    body = await read_body(request, limit=site.body_limit, seconds=site.body_seconds)
    return guarded(await runtime.receive(cast("SurfaceName", name), provider_id, request.inbound(body)))
