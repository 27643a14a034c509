"""The blocking face's deliveries."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .deliveries import Delivery, DeliveryStatus, Redelivered
from .http import InboundRequest
from .model import Page
from .runtime.runtime import Runtime

T = TypeVar("T")


class BlockingDeliveries:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def deliveries(
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
        return self._run(
            Runtime.deliveries,
            provider_id=provider_id,
            connection_id=connection_id,
            status=status,
            event=event,
            since=since,
            until=until,
            dead=dead,
            after=after,
            limit=limit,
        )

    def delivery(self, delivery_id: str) -> Delivery:
        return self._run(Runtime.delivery, delivery_id)

    def delivery_request(self, delivery_id: str) -> InboundRequest:
        return self._run(Runtime.delivery_request, delivery_id)

    def replay(
        self,
        delivery_id: str | None = None,
        *,
        provider_id: str | None = None,
        connection_id: str | None = None,
        event: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        handler: str | None = None,
        again: bool = False,
        dry_run: bool = False,
        progress: Callable[[Redelivered], None] | None = None,
    ) -> Redelivered:
        return self._run(
            Runtime.replay,
            delivery_id,
            provider_id=provider_id,
            connection_id=connection_id,
            event=event,
            since=since,
            until=until,
            handler=handler,
            again=again,
            dry_run=dry_run,
            progress=progress,
        )

    def release_delivery(self, delivery_id: str, *, dry_run: bool = False) -> bool:
        return self._run(Runtime.release_delivery, delivery_id, dry_run=dry_run)

    def drop_delivery(self, delivery_id: str, *, dry_run: bool = False) -> bool:
        return self._run(Runtime.drop_delivery, delivery_id, dry_run=dry_run)
