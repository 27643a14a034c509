"""Subscribing to a provider's resources, and ending that; see ``Runtime.subscribe``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from ..errors import BadInput, Conflict, NotFound, VersionConflict, failure_text
from ..redaction import mask
from ..resources import Subscription
from ..subscription_specs import check_callback_url
from . import subscription_calls
from .core import Core, logger
from .load import require_active
from .subscription_calls import spec_of
from .subscription_endings import end_job
from .subscription_keeper import attend
from .subscription_making import busy, holding, lease_of, make, replace, resources_of
from .subscription_rules import ended, event_of, gap_of, is_live, is_over, missed_since

if TYPE_CHECKING:
    from ..model import NewJob

TRIES: Final = 5
"""How often an end is committed that others were ahead of."""


async def subscribe(
    core: Core,
    connection_id: str,
    resource_type: str,
    resource_id: str,
    *,
    callback_url: str | None,
    events: Iterable[str],
    metadata: Mapping[str, Any],
) -> Subscription:
    """See ``Runtime.subscribe``."""
    for name, text in (("resource_type", resource_type), ("resource_id", resource_id)):
        if not text.strip():
            raise BadInput("What is subscribed to needs a type and an id.", field=name)
    if isinstance(events, str):
        raise BadInput("Events are a list of names, not one text.", field="events")
    connection = await core.store.connections.get(connection_id)
    require_active(connection)
    spec = spec_of(core.instance(connection.provider_id), resource_type)
    now = core.clock.now()
    wanted = Subscription(
        id="",
        connection_id=connection.id,
        provider_id=connection.provider_id,
        resource_type=resource_type,
        resource_id=resource_id,
        channel_id="",
        callback_url=_callback_url(core, connection.provider_id, connection.id, callback_url),
        events=tuple(events),
        metadata=dict(metadata),
        created_at=now,
        updated_at=now,
    )
    async with holding(core, f"subscribe:{connection_id}:{resource_type}:{resource_id}") as held:
        if not held:
            raise busy("")
        found = await _standing(core, wanted)
        if found is None:
            return await make(core, connection, spec, wanted)
        asked = ("callback_url", "events", "metadata")
        if any(getattr(found, name) != getattr(wanted, name) for name in asked):
            raise Conflict(
                f"The connection is subscribed to this {resource_type} already, in another way.",
                hint="Cancel that subscription first.",
                field="resource_id",
                metadata={"subscription_id": found.id},
            )
        if is_live(found, now):
            return found
        async with holding(core, lease_of(found.id)) as alone:
            if not alone:
                raise busy(found.id)
            reason = "unanswered" if found.confirmed_at is None else "expired" if is_over(found, now) else "gone"
            return await replace(core, connection, spec, found, reason=reason)


def _callback_url(core: Core, provider_id: str, connection_id: str, given: str | None) -> str:
    url = given
    if url is None:
        if core.webhooks.url is None:
            raise BadInput(
                "There is no URL that the provider could call.",
                hint="Pass callback_url, or set webhooks.url.",
                field="callback_url",
            )
        url = f"{core.webhooks.url.rstrip('/')}/{provider_id}/{connection_id}"
    try:
        check_callback_url(url)
    except ValueError as error:
        raise BadInput(f"A callback URL {error}.", field="callback_url") from None
    return url


async def _standing(core: Core, wanted: Subscription) -> Subscription | None:
    """The connection's subscription to the same resource that is not cancelled; that which is to stay, of two."""
    after: str | None = None
    while True:
        page = await resources_of(core).subscriptions(
            connection_id=wanted.connection_id,
            resource_type=wanted.resource_type,
            resource_id=wanted.resource_id,
            after=after,
        )
        for row in page.items:
            successor = row.confirmed_at is None and row.replaces is not None
            if row.status != "cancelled" and row.replaced_by is None and not successor:
                return row
        after = page.next
        if after is None:
            return None


async def get(core: Core, subscription_id: str) -> Subscription:
    """See ``Runtime.subscription``."""
    found = await resources_of(core).subscription(subscription_id)
    if found is None:
        raise NotFound(f"There is no subscription {subscription_id!r}.", metadata={"id": subscription_id})
    return found


async def newest(core: Core, subscription_id: str) -> Subscription:
    """What stands in the place of a subscription now: itself, or the last one that replaced it."""
    row = await get(core, subscription_id)
    while row.replaced_by is not None:
        row = await get(core, row.replaced_by)
    return row


async def renew(core: Core, subscription_id: str) -> Subscription:
    """See ``Runtime.renew_subscription``."""
    row = await newest(core, subscription_id)
    if row.status == "cancelled":
        raise Conflict("The subscription was cancelled.", metadata={"subscription_id": row.id})
    require_active(await core.store.connections.get(row.connection_id))
    spec_of(core.instance(row.provider_id), row.resource_type)
    done = await attend(core, row.id, now_or_never=True)
    if done is None:
        raise busy(row.id)
    return done


async def cancel(core: Core, subscription_id: str, *, reason: str) -> Subscription:
    """See ``Runtime.cancel_subscription``."""
    reason = mask(reason)
    row = await get(core, subscription_id)
    while True:
        row = await _cancel_one(core, row, reason)
        if row.replaced_by is None:
            return row
        row = await get(core, row.replaced_by)


async def _cancel_one(core: Core, row: Subscription, reason: str) -> Subscription:
    connection = await core.store.connections.get(row.connection_id)
    told = False
    for _ in range(TRIES):
        if row.status == "cancelled":
            return row
        jobs: tuple[NewJob, ...] = ()
        if not told and not is_over(row, core.clock.now()):
            try:
                told = await subscription_calls.cancel(core, row)
            except Exception as error:
                logger.warning("subscription %s could not be ended at its provider: %s", row.id, failure_text(error))
                job = end_job(core, row)
                jobs = () if job is None else (job,)
        over = ended(row, reason, core.clock.now())
        event = event_of(core, over, connection, "subscription.cancelled", reason=reason, told=told, pending=bool(jobs))
        change = (over, row.version)
        try:
            return (await resources_of(core).save_subscriptions([change], events=[event], jobs=jobs))[0]
        except VersionConflict:
            row = await get(core, row.id)
    raise VersionConflict(
        "The subscription is being changed by many at once; try again.", metadata={"subscription_id": row.id}
    )


async def report_gap(core: Core, subscription_id: str, *, since: datetime | None, reason: str) -> None:
    """See ``Runtime.report_gap``."""
    if not reason.strip():
        raise BadInput("A gap needs a reason.", field="reason")
    row, now = await newest(core, subscription_id), core.clock.now()
    since = since or missed_since(row, now) or row.created_at
    if since.tzinfo is None or since > now:
        raise BadInput("A gap begins at an aware time that is not ahead.", field="since")
    connection = await core.store.connections.get(row.connection_id)
    spec = spec_of(core.instance(row.provider_id), row.resource_type)
    gap, jobs = gap_of(core, row, connection, spec, since=since, until=now, reason=mask(reason))
    for _ in range(TRIES):
        try:
            await resources_of(core).save_subscriptions(
                [(evolve(row, updated_at=now), row.version)], events=[gap], jobs=jobs
            )
            return
        except VersionConflict:
            row = await get(core, row.id)
    raise VersionConflict("The subscription is being changed by many at once; try again.")
