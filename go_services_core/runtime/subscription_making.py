"""Making subscriptions: the row first, with its sealed token; then the request; then what the provider answered.

Whoever dies in between leaves a row that nobody confirmed, which ``subscriptions.renew`` replaces. The states and the
places where a process may die are in docs/explanation/subscriptions.md.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from attrs import evolve

from ..clock import uuid7
from ..errors import Conflict, FacetMissing, LeaseLost, ServicesError, StoreError, VersionConflict, failure_text
from ..facets import ResourceFacet
from ..resources import Subscription
from ..secret import SecretStr
from . import subscription_calls
from .core import Core, logger
from .sealed_values import seal_verification
from .subscription_calls import is_definite, retry_after
from .subscription_endings import leave_ends
from .subscription_rules import (
    UNANSWERED,
    confirmed,
    delay,
    ended,
    event_of,
    gap_of,
    is_over,
    missed_since,
)

if TYPE_CHECKING:
    from ..model import Connection, Event, NewJob
    from ..subscription_specs import SubscriptionSpec

LEASE: Final = 120.0
"""Seconds for which nobody else renews or replaces a subscription; longer than a call of it and its commit."""
TOKEN_BYTES: Final = 32
FOREIGN: Final = "the provider gave a channel that belongs to another subscription"
"""Nothing is ended at the provider then: it would be the other one."""


def resources_of(core: Core) -> ResourceFacet:
    """Where subscriptions and installations are kept.

    Raises:
        FacetMissing: the store keeps none.
    """
    found: ResourceFacet | None = getattr(core.store, "resources", None)
    if found is None:
        raise FacetMissing("The store has no facet resources, which subscriptions and installations need.")
    return found


@asynccontextmanager
async def holding(core: Core, resource: str) -> AsyncGenerator[bool]:
    """Whether this process alone works on the subscription until the block ends."""
    lease = await core.store.leases.acquire(resource, owner=f"{core.owner}:{uuid7(core.clock)}", seconds=LEASE)
    try:
        yield lease is not None
    finally:
        if lease is not None:
            with suppress(LeaseLost, StoreError):
                await core.store.leases.release(lease)


def lease_of(subscription_id: str) -> str:
    """The name of a subscription's lease."""
    return f"subscription:{subscription_id}"


def busy(subscription_id: str) -> Conflict:
    """The error for what another process is working on."""
    return Conflict(
        "Another process renews, replaces or creates this subscription at this moment.",
        hint="Try again in a minute.",
        metadata={"subscription_id": subscription_id},
    )


async def opened(core: Core, connection: Connection, wanted: Subscription) -> tuple[Subscription, SecretStr]:
    """Keep ``wanted`` under an id, a channel and a token of its own, before the provider hears of it.

    The provider may use the channel before it has answered.
    """
    id, now = uuid7(core.clock), core.clock.now()
    token = SecretStr(urlsafe_b64encode(core.clock.random(TOKEN_BYTES)).rstrip(b"=").decode())
    sealed = await seal_verification(
        core.sealer, token, subscription_id=id, provider_id=connection.provider_id, scope=connection.scope
    )
    row = evolve(
        wanted,
        id=id,
        channel_id=id,
        verification=sealed,
        verification_token_ref="",
        remote_subscription_id=None,
        remote_resource_id=None,
        status="active",
        status_reason="not confirmed yet",
        version=1,
        expires_at=None,
        last_notified_at=None,
        confirmed_at=None,
        renew_at=now + timedelta(seconds=UNANSWERED),
        attempts=0,
        replaced_by=None,
        created_at=now,
        updated_at=now,
    )
    return await resources_of(core).save_subscription(row, expected_version=None), token


async def make(core: Core, connection: Connection, spec: SubscriptionSpec, wanted: Subscription) -> Subscription:
    """Subscribe for the first time.

    Raises:
        ServicesError: the provider refused, and nothing is left; or nobody knows whether it did: ``metadata`` then has
            the ``subscription_id`` of what ``subscriptions.renew`` goes on with.
        Conflict: it was cancelled meanwhile, or the provider gave a channel that is another subscription's.
    """
    row, token = await opened(core, connection, wanted)
    try:
        answer = await subscription_calls.create(core, row, token)
    except Exception as error:
        if is_definite(error):
            await _drop(core, row, failure_text(error))
        elif isinstance(error, ServicesError):
            error.metadata["subscription_id"] = row.id
        raise
    made = confirmed(row, spec, answer, core.clock.now())
    told = event_of(core, made, connection, "subscription.created", expires_at=made.expires_at)
    try:
        return await resources_of(core).save_subscription(made, expected_version=row.version, event=told)
    except VersionConflict:
        await undo(core, made)
        raise _overtaken(row) from None
    except Conflict:
        await _drop(core, row, FOREIGN)
        raise


async def extend(core: Core, connection: Connection, spec: SubscriptionSpec, row: Subscription) -> Subscription:
    """Move the end of a live subscription.

    Raises:
        ServicesError: the provider did not.
        Conflict: it was changed meanwhile.
    """
    answer = await subscription_calls.renew(core, row)
    renewed = confirmed(row, spec, answer, core.clock.now())
    told = event_of(core, renewed, connection, "subscription.renewed", expires_at=renewed.expires_at, replaces=None)
    try:
        return await resources_of(core).save_subscription(renewed, expected_version=row.version, event=told)
    except VersionConflict:
        raise _overtaken(row) from None


async def replace(
    core: Core, connection: Connection, spec: SubscriptionSpec, old: Subscription, *, reason: str
) -> Subscription:
    """Make a new subscription in the place of ``old``, under a channel and a token of its own.

    ``reason`` is ``renewal`` where the old one is live: it stays so until ``subscriptions.renew`` has ended it, so that
    both tokens are good meanwhile. Else it is ``gone``, ``expired`` or ``unanswered``, and the old one is cancelled in
    the commit of the new one, with the gap that is between them.

    Raises:
        ServicesError: the provider made none; the old one is as it was.
        Conflict: the old one was changed meanwhile.
    """
    facet = resources_of(core)
    row, token = await opened(core, connection, evolve(old, replaces=old.id))
    try:
        answer = await subscription_calls.create(core, row, token)
    except Exception as error:
        await _drop(core, row, failure_text(error))
        raise
    now = core.clock.now()
    made = confirmed(row, spec, answer, now)
    events: list[Event] = []
    jobs: tuple[NewJob, ...] = ()
    if reason == "renewal":
        told = event_of(core, made, connection, "subscription.renewed", expires_at=made.expires_at, replaces=old.id)
        left = evolve(old, replaced_by=made.id, renew_at=now + timedelta(seconds=spec.overlap), attempts=0)
    else:
        is_first = old.confirmed_at is None and old.replaces is None
        name = "subscription.created" if is_first else "subscription.recreated"
        told = event_of(core, made, connection, name, expires_at=made.expires_at, replaces=old.id, reason=reason)
        left = ended(evolve(old, replaced_by=made.id), reason, now)
        events.append(event_of(core, left, connection, "subscription.cancelled", reason=reason, replaced_by=made.id))
        since = missed_since(old, now)
        if since is not None:
            gap, jobs = gap_of(core, made, connection, spec, since=since, until=now, reason=reason)
            events.append(gap)
    try:
        saved = await facet.save_subscriptions(
            [(made, row.version), (left, old.version)], events=[told, *events], jobs=jobs
        )
    except VersionConflict:
        await undo(core, made)
        raise _overtaken(old) from None
    except Conflict:
        await _drop(core, row, FOREIGN)
        raise
    return saved[0]


async def failed(
    core: Core, connection: Connection, row: Subscription, error: Exception, *, gone: bool
) -> Subscription | None:
    """Keep that renewing or replacing ``row`` failed, and when it is tried again; None where it was changed meanwhile.

    While its time is not over it is active still, unless it is ``gone`` at the provider.
    """
    now = core.clock.now()
    reason = failure_text(error)[:500]
    tried = evolve(row, attempts=row.attempts + 1, status_reason=reason, updated_at=now)
    seconds = delay(tried, now, core.clock.random(1)[0] / 256, asked=retry_after(error))
    tried = evolve(tried, renew_at=now + timedelta(seconds=seconds))
    events = []
    if row.status == "active" and is_over(row, now):
        tried = evolve(tried, status="expired")
        events.append(event_of(core, tried, connection, "subscription.expired", expires_at=row.expires_at))
    elif row.status == "active" and (row.confirmed_at is None or gone):
        tried = evolve(tried, status="errored")
    told = {"reason": reason, "attempts": tried.attempts, "retry_at": tried.renew_at}
    events.append(event_of(core, tried, connection, "subscription.renewal_failed", **told))
    try:
        return (await resources_of(core).save_subscriptions([(tried, row.version)], events=events))[0]
    except VersionConflict:
        return None


async def abandon(core: Core, row: Subscription) -> None:
    """End a row that was to replace another one and was never confirmed; the other one tries again by itself."""
    await _drop(core, row, "its creation was never answered")


async def undo(core: Core, made: Subscription) -> None:
    """End at the provider what was made there and may not be kept here."""
    try:
        await subscription_calls.cancel(core, made)
    except Exception as error:
        logger.warning("subscription %s could not be taken back: %s", made.id, failure_text(error))
        await leave_ends(core, [made])
    await _drop(core, made, "it was cancelled while it was made")


async def _drop(core: Core, row: Subscription, reason: str) -> None:
    with suppress(VersionConflict):
        await resources_of(core).save_subscriptions([(ended(row, reason[:500], core.clock.now()), row.version)])


def _overtaken(row: Subscription) -> Conflict:
    return Conflict(
        "The subscription was changed or cancelled while it was renewed or made.",
        metadata={"subscription_id": row.id},
    )
