"""The part of the ``queues`` facet that is about deliveries."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime

from go_services_core.deliveries import Delivery, DeliveryStatus
from go_services_core.delivery_specs import Burst
from go_services_core.model import Accepted, Claim, Event, InboxDelivery, Page

from .. import inbox, inbox_replay
from ..driver import Driver
from ..inbox_arrivals import MOST, Arrival
from ..pass_on import pass_on
from .limits import at_least_one


class SqlInbox:
    """Part of ``SqlQueues``."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def accept(self, delivery: InboxDelivery, *, burst: Burst | None = None) -> Accepted:
        if (burst is None or delivery.burst_key is None) and len(delivery.sealed.ciphertext) <= MOST:
            return await self._driver.run(Arrival(delivery), alone=True)
        return await self._driver.run(lambda: inbox.accept(delivery, burst), alone=True)

    async def pass_on(self, pairs: Sequence[tuple[Claim, Event]]) -> builtins.list[str]:
        one = self._driver.dialect.changes_in_with
        return await self._driver.run(lambda: pass_on(pairs), alone=one)

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
        at_least_one(limit)
        filters = {
            "provider_id": provider_id,
            "connection_id": connection_id,
            "status": status,
            "event": event,
            "since": since,
            "until": until,
        }
        return await self._driver.read(
            lambda: inbox_replay.page(filters, dead=dead, after=after, limit=limit), scan=True
        )

    async def delivery_state(self, delivery_row_id: str) -> Delivery | None:
        return await self._driver.read(lambda: inbox_replay.get(delivery_row_id))

    async def rearm_delivery(self, delivery_row_id: str, *, fence: int) -> bool:
        return await self._driver.run(lambda: inbox_replay.rearm(delivery_row_id, fence=fence), alone=True)

    async def end_quarantine(self, delivery_row_id: str, *, release: bool) -> bool:
        status = "pending" if release else "dropped"
        return await self._driver.run(lambda: inbox_replay.decide(delivery_row_id, status), alone=True)
