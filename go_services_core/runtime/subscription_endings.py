"""Ending subscriptions at the provider: at once, or by the job ``subscriptions.cancel`` where it cannot be told now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ..clock import uuid7
from ..errors import CapabilityUnsupported, ProviderNotFound, failure_text
from ..model import NewJob
from ..resources import Subscription
from . import subscription_calls
from .core import Core, logger

if TYPE_CHECKING:
    from ..model import Claim, Connection

CANCEL_JOB: Final = "subscriptions.cancel"
"""Kind of the job that ends at its provider what is cancelled here already."""
FIRST_DELAY: Final = 60.0
GIVE_UP_AFTER: Final = timedelta(days=7)
"""How long a provider is told of an end, where the subscription does not end by itself before."""


async def tell_end(core: Core, connection: Connection, row: Subscription) -> None:
    """End ``row`` at its provider, for a disconnect, which cancels it here.

    Raises:
        ServicesError: it could not be told.
    """
    try:
        await subscription_calls.cancel(core, row)
    except (CapabilityUnsupported, ProviderNotFound):
        logger.debug("subscription %s is left to end by itself", row.id)


def end_job(core: Core, row: Subscription) -> NewJob | None:
    """The job that ends ``row`` at its provider; None where nothing can."""
    try:
        spec = subscription_calls.spec_of(core.instance(row.provider_id), row.resource_type)
    except (CapabilityUnsupported, ProviderNotFound):
        return None
    if spec.cancel is None or row.confirmed_at is None:
        return None
    return NewJob(
        id=uuid7(core.clock),
        kind=CANCEL_JOB,
        provider_id=row.provider_id,
        connection_id=row.connection_id,
        payload={
            "subscription_id": row.id,
            "resource_type": row.resource_type,
            "resource_id": row.resource_id,
            "channel_id": row.channel_id,
            "callback_url": row.callback_url,
            "remote_id": row.remote_subscription_id,
            "remote_resource_id": row.remote_resource_id,
            "ends": None if row.expires_at is None else row.expires_at.timestamp(),
        },
        requested_by="runtime",
        delay=FIRST_DELAY,
        created_at=core.clock.now(),
    )


async def leave_ends(core: Core, rows: Sequence[Subscription]) -> None:
    """Have the job end ``rows`` at their provider, once they are cancelled here."""
    for row in rows:
        job = end_job(core, row)
        if job is not None:
            await core.store.queues.enqueue(job)


async def cancel_left(core: Core, claim: Claim) -> float | None:
    """End at the provider what is cancelled here; ending twice is harmless. Given up when it has ended by itself.

    Raises:
        ServicesError: the provider could not be told yet; a connection that was disconnected may come back.
    """
    job = claim.job
    assert job is not None
    assert job.connection_id is not None
    told, now = job.payload, core.clock.now()
    stored = await core.store.resources.subscription(told["subscription_id"])
    if stored is not None and stored.status != "cancelled":
        return None  # the commit that would have ended it did not come about
    row = Subscription(
        id=told["subscription_id"],
        connection_id=job.connection_id,
        provider_id=job.provider_id,
        resource_type=told["resource_type"],
        resource_id=told["resource_id"],
        channel_id=told["channel_id"],
        callback_url=told["callback_url"],
        remote_subscription_id=told["remote_id"],
        remote_resource_id=told["remote_resource_id"],
        confirmed_at=job.created_at,
        created_at=job.created_at,
        updated_at=now,
    )
    try:
        await subscription_calls.cancel(core, row)
    except Exception as failed:
        ends = told["ends"]
        if now < job.created_at + GIVE_UP_AFTER and (ends is None or now.timestamp() < ends):
            raise
        logger.warning("subscription %s was never ended at its provider: %s", row.id, failure_text(failed))
    return None
