"""Answers that are read while they come: opened through the same attempts as any other request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from ..errors import BadInput, BodyTooLarge
from ..http import HttpRequest, HttpResponse, StreamedResponse
from ..protocols import StreamTransport
from .call import Call
from .core import Core
from .sending import send

_ERROR_BODY = 65536
"""Bytes that are read of an answer that is an error; one that is longer has no excerpt."""


class Opening:
    """The transport of one call whose answer stays open.

    It shows those who decide about attempts the answer's status and headers, and the body of an error; what a later
    attempt replaces is closed.
    """

    def __init__(self, transport: StreamTransport) -> None:
        self._transport = transport
        self._stack = AsyncExitStack()
        self.response: StreamedResponse | None = None

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        await self.aclose()
        response = await self._stack.enter_async_context(self._transport.stream(request, provider_id=provider_id))
        body = b""
        if 200 <= response.status < 300:
            self.response = response
        else:
            try:
                body = await response.read(_ERROR_BODY)
            except BodyTooLarge:
                pass
            finally:
                await self._stack.aclose()
        return HttpResponse(response.status, response.headers, body, response.url)

    async def aclose(self) -> None:
        """Hang up, unless the answer is at its end."""
        self.response = None
        await self._stack.aclose()


@asynccontextmanager
async def opened(
    core: Core, call: Call, request: HttpRequest, *, accept: tuple[int, ...] = ()
) -> AsyncGenerator[tuple[HttpResponse, StreamedResponse | None]]:
    """Send ``request`` as any of ``call`` is, and give its answer open; closed when the context ends.

    The body of a status outside 200–299 is in the first of the two, and the second is None.

    Raises:
        BadInput: the transport cannot give an answer while it comes.
        ServicesError: as ``sending.send``.
    """
    transport = call.transport or core.transport
    if not isinstance(transport, StreamTransport):
        raise BadInput(f"The transport of {call.operation.id} cannot give an answer while it comes.", field="call")
    opening = Opening(transport)
    call.transport = opening
    try:
        head = await send(core, call, request, accept=accept)
        yield head, opening.response
    finally:
        call.transport = transport
        await opening.aclose()
