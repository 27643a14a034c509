"""Accepted deliveries become events: each once, in one commit for a whole batch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from ..delivery_specs import Schedule
from ..errors import BadInput, Conflict, LeaseLost, StoreError, StoreUnavailable
from ..lifecycle import NOBODY, made
from ..model import Claim, Event, InboxDelivery
from .core import Core, logger
from .spans import Span, retrying

Pair: TypeAlias = tuple[Claim, Event]


async def run_due(core: Core, limit: int) -> tuple[int, int]:
    """Pass up to ``limit`` deliveries on to their handlers; gives how many were passed on and how many failed."""
    claims = await core.store.queues.claim("inbox", owner=core.owner, lease=core.worker.lease, limit=limit)
    if not claims:
        return 0, 0
    pairs = [(claim, event_of(claim.delivery)) for claim in claims if claim.delivery is not None]
    with Span(core, "webhook.handle", deliveries=len(pairs)) as span:
        try:
            lost = await core.store.queues.pass_on(pairs)
            failed = len(lost)
            for id in lost:
                logger.warning("the lease of delivery %s was lost; its new holder goes on", id)
        except StoreUnavailable:
            raise
        except (StoreError, Conflict, BadInput) as error:
            span.failed(error)
            failed = await _one_by_one(core, pairs)
        span.detail["failed"] = failed
    await _tell_subscriptions(core, claims)
    return len(pairs) - failed, failed


async def _tell_subscriptions(core: Core, claims: Sequence[Claim]) -> None:
    """Keep when subscriptions were last heard of, in one statement, and here rather than where a delivery is accepted:
    a row that each notification of a busy resource writes would have the answers wait for each other.

    The batch is done already. A time that is not kept makes a gap that is reported later begin earlier, no more.
    """
    heard: dict[tuple[str, str], datetime] = {}
    for delivery in (claim.delivery for claim in claims):
        if delivery is not None and delivery.channel:
            key = (delivery.provider_id, delivery.channel)
            heard[key] = max(heard.get(key, delivery.received_at), delivery.received_at)
    resources = getattr(core.store, "resources", None)
    if not heard or resources is None:
        return
    try:
        await resources.notified(heard)
    except StoreError as error:
        logger.warning("it was not kept when %d subscriptions were last heard of: %s", len(heard), error.message)


def event_of(delivery: InboxDelivery) -> Event:
    """What handlers get of a delivery. Its id is the delivery's, so that each finds the other."""
    return made(
        f"webhook.{delivery.event}",
        {
            "delivery": delivery.id,
            "delivery_id": delivery.delivery_id,
            "event": delivery.event,
            "channel": delivery.channel,
            "resource": delivery.resource,
        },
        id=delivery.id,
        at=delivery.received_at,
        provider_id=delivery.provider_id,
        scope=delivery.scope or NOBODY,
        connection_id=delivery.connection_id,
        source="webhook",
        order_key=delivery.order_key,
    )


async def _one_by_one(core: Core, pairs: Sequence[Pair]) -> int:
    """A batch that the store refuses has one in it that it never takes: that one is put back, the others go on."""
    failed = 0
    for pair in pairs:
        try:
            failed += len(await core.store.queues.pass_on([pair]))
        except StoreUnavailable:
            raise
        except (StoreError, Conflict, BadInput) as error:
            failed += 1
            await _put_back(core, pair[0], error)
    return failed


async def _put_back(core: Core, claim: Claim, error: StoreError | Conflict | BadInput) -> None:
    assert claim.delivery is not None
    instance = core.instances.get(claim.delivery.provider_id)
    schedule = Schedule() if instance is None else instance.spec.inbox.schedule
    delay = schedule.delay(claim.attempt, random.random)
    try:
        if delay is None:
            logger.error("delivery %s cannot be passed on and is dead: %s", claim.id, error)
            await core.store.queues.settle(claim, "dead", error=error.message[:500])
        else:
            await core.store.queues.settle(claim, "retry", error=error.message[:500], delay=delay)
            retrying(
                core, "webhook.handle", error, delay, item=claim.id, attempt=claim.attempt, **_whose(claim.delivery)
            )
    except LeaseLost:
        logger.warning("the lease of delivery %s was lost; its new holder goes on", claim.id)


def _whose(delivery: InboxDelivery) -> Mapping[str, Any]:
    return {
        "provider_id": delivery.provider_id,
        "connection_id": delivery.connection_id,
        "scope": delivery.scope,
    }
