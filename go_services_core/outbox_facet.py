"""What a store must do for events and their handlers, besides what all queues do alike.

The queues themselves are in ``go_services_core.facets``. Each method's docstring is its contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from .model import Event, QueueItem
from .outbox import OutboxStatus


class OutboxFacet(Protocol):
    """Handlers, and the deliveries of events to them."""

    async def register_handlers(self, handlers: Mapping[str, str], *, now: datetime) -> None:
        """Make handler names and their event patterns known, and that a process has them at this moment.

        Events from before ``now`` do not reach a name that is new. With an empty pattern a known handler gets nothing
        more, and one that is not known stays so.
        """
        ...

    async def event(self, event_id: str) -> Event | None:
        """The event, as it was committed."""
        ...

    async def event_deliveries(self, event_id: str) -> Sequence[QueueItem]:
        """The event's deliveries by handler; none while no handler has it."""
        ...

    async def rearm(self, items: Sequence[QueueItem]) -> Sequence[str]:
        """Make those deliveries due again, from their first attempt; gives the ids of the ones that it was done for.

        Only one that is dead or delivered, and that is as ``items`` shows it: of two callers that saw the same, one
        does it. Their events are open again.
        """
        ...

    async def backfill(
        self, handler: str, *, since: datetime, until: datetime, after: str | None = None, limit: int = 1000
    ) -> tuple[int, str | None]:
        """Deliver older events to a handler: of the next ``limit`` events by id those that occurred from ``since`` to
        before ``until``, match its pattern and did not reach it.

        Gives how many there were, and where the next call goes on; None at the end.

        Raises:
            NotFound: no handler of that name is registered.
        """
        ...

    async def forget_handler(self, handler: str, *, unseen: float, limit: int = 1000) -> int:
        """Forget a handler, and up to ``limit`` of its deliveries that did not end; gives how many those were.

        The caller repeats it until there is none. An event ends with the last delivery that it has left.

        Raises:
            Conflict: a process said within the last ``unseen`` seconds that it has the handler; nothing was changed.
        """
        ...

    async def outbox_status(self) -> OutboxStatus:
        """Every handler with its counts; it may go through all that is open."""
        ...
