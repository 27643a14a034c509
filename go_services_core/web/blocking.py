"""Answering in a thread: the routes run on the loop of a ``BlockingRuntime``, what is the thread's own stays in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from attrs import evolve

from ..errors import BadInput, RequestRefused
from ..http import HttpResponse
from ..model import Scope
from .answers import error_answer
from .body import check_head, too_large
from .request import WebRequest
from .routes import answer, begins_a_consent
from .site import Site

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime

PIECE = 65_536


def answer_blocking(
    runtime: BlockingRuntime, request: WebRequest, site: Site, read: Callable[[int], bytes]
) -> HttpResponse:
    """The answer to a request whose body ``read(size)`` gives, until it gives nothing.

    The body is read, and ``scope_of`` is called, in the calling thread: there are the socket, the session and the
    database connection of its framework. How long a body may take is up to the server.
    """
    try:
        check_head(request, limit=site.body_limit)
        whole = _read(read, site.body_limit)
    except RequestRefused as error:
        return error_answer(request, error)

    async def body() -> AsyncGenerator[bytes]:
        yield whole

    if begins_a_consent(request, site):
        assert site.scope_of is not None
        scope = site.scope_of(request.native)
        if scope is not None and not isinstance(scope, Scope):
            raise BadInput(f"scope_of gives a Scope or None here, not {type(scope).__name__}.", field="scope_of")
        site = site.for_scope(scope)
    return runtime.run(answer, evolve(request, body=body), site)


def _read(read: Callable[[int], bytes], limit: int) -> bytes:
    pieces, size = [], 0
    while piece := read(min(PIECE, limit + 1 - size)):
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        pieces.append(piece)
    return b"".join(pieces)
