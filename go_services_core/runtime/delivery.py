"""What follows later: accepted deliveries become events, events reach their handlers, each once in effect."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from ..clock import uuid7
from ..errors import LeaseLost, NotFound, ServicesError
from ..handled import Handled
from ..http import InboundRequest
from ..model import Claim, Event, InboxDelivery, QueueName, Scope
from . import bindings
from .claims import work_off
from .core import Core, logger
from .payload import decode_request
from .spans import Span

if TYPE_CHECKING:
    from ..protocols import EventHandler
    from .runtime import Runtime

RETRY_DELAY = 60.0
"""Seconds until a handler that failed is due again, times the number of its attempts."""
MAX_ATTEMPTS = 8
"""After so many failures the item is set aside as dead."""
NOBODY = Scope("org", "-")
"""The scope of an event from a webhook that is not tied to a connection."""


@frozen
class Context:
    """What a durable handler may use."""

    runtime: Runtime
    _core: Core
    _event: Event

    async def request(self) -> InboundRequest:
        """The webhook request behind the event.

        Raises:
            NotFound: the event does not come from a webhook, or its delivery is gone.
        """
        row_id = self._event.payload.get("delivery")
        row = await self._core.store.queues.delivery(row_id) if isinstance(row_id, str) else None
        if row is None:
            raise NotFound(f"The event {self._event.name} has no webhook request behind it.")
        binding = bindings.inbox(row.id, row.provider_id, row.scope)
        return decode_request(await self._core.sealer.open(row.sealed, binding))


async def register(core: Core, handlers: Mapping[str, tuple[str, EventHandler]]) -> None:
    """Make handlers known, here and in the store: events from before do not reach a name that is new."""
    patterns = {name: pattern for name, (pattern, _) in handlers.items()}
    await core.store.queues.register_handlers(patterns, now=core.clock.now())
    core.handlers.update(handlers)


async def run_due(core: Core, runtime: Runtime, kind: QueueName, limit: int) -> tuple[int, int]:
    """Claim and handle up to ``limit`` items of one queue; gives how many were handled and how many failed."""
    names = sorted(core.handlers)
    claims = await core.store.queues.claim(kind, owner=core.owner, lease=core.worker.lease, limit=limit, handlers=names)
    return await work_off(core, claims, lambda claim: _handle(core, runtime, claim))


async def _handle(core: Core, runtime: Runtime, claim: Claim) -> bool:
    with _span(core, claim) as span:
        try:
            if claim.delivery is not None:
                await core.store.queues.settle(claim, "done", events=[_webhook_event(core, claim.delivery)])
                return True
            assert claim.event is not None
            assert claim.handler is not None
            _, handler = core.handlers[claim.handler]
            handled = await handler(claim.event, Context(runtime, core, claim.event))
            effect = handled if isinstance(handled, Handled) else Handled(work=handled)
            await core.store.queues.settle(claim, "done", events=effect.events, work=effect.work)
            return True
        except LeaseLost as error:
            span.failed(error)  # its new holder goes on
            return False
        except (Exception, asyncio.CancelledError) as error:
            span.failed(error)
            await _put_back(core, claim, error, span)
            if isinstance(error, asyncio.CancelledError):
                raise
            return False


def _span(core: Core, claim: Claim) -> Span:
    of = claim.delivery or claim.event
    assert of is not None
    return Span(
        core,
        "webhook.handle" if claim.delivery is not None else "outbox",
        provider_id=of.provider_id,
        connection_id=of.connection_id,
        scope=of.scope,
        event=claim.event.name if claim.event is not None else None,
        handler=claim.handler,
        item=claim.id,
        attempt=claim.attempt,
    )


async def _put_back(core: Core, claim: Claim, error: BaseException, span: Span) -> None:
    # A foreign exception may quote a secret, and the row stays: it gets the type only, the log has the rest.
    text = error.message[:500] if isinstance(error, ServicesError) else type(error).__name__
    try:
        if claim.attempt >= MAX_ATTEMPTS:
            await core.store.queues.settle(claim, "dead", error=text)
        else:
            delay = RETRY_DELAY * claim.attempt
            await core.store.queues.settle(claim, "retry", error=text, delay=delay)
            span.again(error, delay)
    except LeaseLost:
        logger.warning("the lease of %s item %s was lost; its new holder goes on", claim.queue, claim.id)


def _webhook_event(core: Core, delivery: InboxDelivery) -> Event:
    return Event(
        id=uuid7(core.clock),
        name=f"webhook.{delivery.event}",
        provider_id=delivery.provider_id,
        scope=delivery.scope or NOBODY,
        connection_id=delivery.connection_id,
        occurred_at=delivery.received_at,
        source="webhook",
        payload={"delivery": delivery.id, "delivery_id": delivery.delivery_id, "event": delivery.event},
    )
