"""Handlers of events and of inbound requests, and what they may use."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from .http import HttpResponse, InboundRequest
from .model import Connection, Event

if TYPE_CHECKING:
    from .handled import Handled
    from .protocols import Verified, Work
    from .runtime.runtime import Runtime


class HandlerContext(Protocol):
    """What a durable handler may use."""

    @property
    def runtime(self) -> Runtime: ...

    async def request(self) -> InboundRequest:
        """The webhook request behind the event, opened from the inbox.

        Raises:
            NotFound: the event does not come from a webhook, or its delivery is gone.
            Unrecoverable: the delivery cannot be opened; where the handler lets it through, it is dead at once.
        """
        ...


class EventHandler(Protocol):
    """A durable handler. What it returns commits together with the settlement: a ``Work``, or more as ``Handled``."""

    def __call__(self, event: Event, context: HandlerContext, /) -> Awaitable[Handled | Work[Any] | None]: ...


class SurfaceContext(HandlerContext, Protocol):
    """What the handler of a surface may use."""

    @property
    def connection(self) -> Connection | None:
        """Of the URL that was called, where it has one."""
        ...

    @property
    def verified(self) -> Verified | None:
        """What the provider's scheme found in the request."""
        ...


class InboundHandler(Protocol):
    """Answers a request on a surface: with the answer alone, or with what follows from it besides.

    What is ``Handled`` commits together with the record of the answer, once, or not at all. A vendor that wants its
    answer within seconds gets it, and a job or an event does the rest.
    """

    def __call__(
        self, request: InboundRequest, context: SurfaceContext, /
    ) -> Awaitable[HttpResponse | tuple[HttpResponse, Handled]]: ...
