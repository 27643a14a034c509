"""Deliveries that were accepted: what became of them, and having them handled once more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ...deliveries import Delivery, DeliveryStatus, Redelivered
from ...http import InboundRequest
from ...model import Page
from .. import redelivery as _redelivery
from ..core import Core
from ..known_names import check as check_names


class Deliveries:
    """Showing and replaying deliveries."""

    _core: Core

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
        """Deliveries by id with their handlers, a page at a time.

        Args:
            provider_id, connection_id, status: only those.
            event: as the provider names it.
            since, until: when it was received; ``since`` is included, ``until`` is not. Both need a time zone.
            dead: only those that were given up, themselves or at one of their handlers.
            after: the ``next`` of the page before.
            limit: how many at most.

        Raises:
            BadInput: a time has no zone, or the limit is below 1.
            ProviderNotFound, ConnectionNotFound: there is no such provider or connection, and nothing of it.
        """
        which = _redelivery.Filter(
            provider_id=provider_id,
            connection_id=connection_id,
            status=status,
            event=event,
            since=since,
            until=until,
            dead=dead,
        )
        page = await which.page(self._core, after=after, limit=limit)
        if not page.items:
            await check_names(self._core, provider_id=provider_id, connection_id=connection_id)
        return page

    async def delivery(self, delivery_id: str) -> Delivery:
        """One delivery with its handlers.

        Args:
            delivery_id: of its row: ``Accepted.id``, or an event's ``payload["delivery"]``.

        Raises:
            NotFound: there is none.
        """
        return await _redelivery.delivery(self._core, delivery_id)

    async def delivery_request(self, delivery_id: str) -> InboundRequest:
        """What was received: request line, headers and body, opened now. The body may hold anything; log none of it.

        Raises:
            NotFound: there is no such delivery.
            CannotOpen, BackendUnavailable: it cannot be opened.
        """
        return await _redelivery.request(self._core, delivery_id)

    async def replay(
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
        """Have one delivery, or those that the filters choose, handled once more where they were given up.

        Each is replayed only where it is still as it was seen: of two that replay it at once, one does.

        Args:
            delivery_id: the one; None takes all that match the filters.
            provider_id, connection_id, event, since, until: as of :meth:`deliveries`.
            handler: only at the handler of that name.
            again: also where it was handled, or superseded by a newer one. Handlers then see the same event, with
                the same id, a second time.
            dry_run: only count.
            progress: called with what was done so far after each delivery.

        Raises:
            NotFound: there is no delivery of that id, or no provider, connection or handler of that name.
            BadInput: an id and filters are given, or a time has no zone.
        """
        which = _redelivery.Filter(
            provider_id=provider_id, connection_id=connection_id, event=event, since=since, until=until
        )
        return await _redelivery.replay(
            self._core, delivery_id, which, handler=handler, again=again, dry_run=dry_run, progress=progress
        )

    async def release_delivery(self, delivery_id: str, *, dry_run: bool = False) -> bool:
        """Have a quarantined delivery handled as any other; False where it is not quarantined.

        It came with an id that another body had before. Who releases it has looked at both.

        Raises:
            NotFound: there is none.
        """
        return await _redelivery.end_quarantine(self._core, delivery_id, release=True, dry_run=dry_run)

    async def drop_delivery(self, delivery_id: str, *, dry_run: bool = False) -> bool:
        """Give a quarantined delivery up for good; False where it is not quarantined. It still dedupes.

        Raises:
            NotFound: there is none.
        """
        return await _redelivery.end_quarantine(self._core, delivery_id, release=False, dry_run=dry_run)
