"""What a store must do with deliveries beyond keeping them: passing them on, showing them, replaying them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from .deliveries import Delivery, DeliveryStatus
from .delivery_specs import Burst
from .model import Accepted, Claim, Event, InboxDelivery, Page


class InboxFacet(Protocol):
    """Part of ``queues``."""

    async def accept(self, delivery: InboxDelivery, *, burst: Burst | None = None) -> Accepted:
        """Keep a verified delivery, durably, with one statement where it is new, or two for all that arrive at once.

        The same provider, connection and delivery id with the same digest is a duplicate and has no effect, whatever
        became of the first; with another digest it is kept as quarantined.

        With ``burst`` and a ``burst_key`` it waits as that says, by the database's clock. Of the deliveries of one
        provider and key that wait, a claim gives that with the highest id and makes the others ``superseded``; in a
        stream that does not end one is given at the latest ``longest`` seconds after the first that waited.
        """
        ...

    async def pass_on(self, pairs: Sequence[tuple[Claim, Event]]) -> list[str]:
        """End claims of the inbox as processed and commit the event of each, in one unit, with as many statements for
        many as for one; gives the ids of claims that are lost, whose events are not committed.

        An event whose id is there already is not committed again.
        """
        ...

    async def deliveries(
        self,
        *,
        provider_id: str | None = None,
        connection_id: str | None = None,
        status: DeliveryStatus | None = None,
        event: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        dead: bool = False,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Delivery]:
        """Deliveries by id with their handlers, a page at a time; with ``dead`` those that are, or are at a handler.

        ``since`` and ``until`` are about ``received_at``; ``since`` is included, ``until`` is not.
        """
        ...

    async def delivery_state(self, delivery_row_id: str) -> Delivery | None:
        """One delivery with its handlers."""
        ...

    async def rearm_delivery(self, delivery_row_id: str, *, fence: int) -> bool:
        """Have a delivery passed on anew that is dead or superseded, or whose event is gone; outside its burst.

        False, and nothing changed, where it is none of these, or has another fence than was seen.
        """
        ...

    async def end_quarantine(self, delivery_row_id: str, *, release: bool) -> bool:
        """Have a quarantined delivery handled, or dropped for good; False where it is not quarantined."""
        ...
