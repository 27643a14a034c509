"""Keeping subscriptions alive: the work of the kind ``subscriptions.renew``.

What is due is asked of the store, page by page. A lease for each subscription has one worker act on it; the version of
its row refuses what a worker without the lease would still commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field

from ..errors import CapabilityUnsupported, Conflict, ReauthRequired, StoreError, VersionConflict, failure_text
from ..model import Event, NewJob
from ..resources import Subscription
from . import subscription_calls
from .core import Core, logger
from .refresh_ahead import Allowance
from .spans import Span
from .subscription_calls import is_gone, spec_of
from .subscription_endings import end_job
from .subscription_making import abandon, extend, failed, holding, lease_of, replace, resources_of
from .subscription_rules import ended, event_of, is_live, is_over

if TYPE_CHECKING:
    from ..model import Connection
    from ..subscription_specs import SubscriptionSpec

RENEW: Final = "subscriptions.renew"
PAGE: Final = 100
"""Subscriptions that are read at once."""
LONGEST_RUN: Final = 60.0
"""Seconds after which a run begins nothing any more; the next one goes on."""
IN_A_ROW: Final = 5
"""Failures after one another with which a run leaves a provider alone."""
AT_ONCE: Final = 4
"""Subscriptions of one provider that a process works on at once."""
END_TRIES: Final = 5
"""How often the end of a replaced subscription is told here, before a job does it."""


async def run(core: Core, limit: int | None = None) -> tuple[int, int]:
    """Look after what is due, at most ``limit`` subscriptions; gives how many were seen to and how many failed.

    Providers do not wait for each other.

    Raises:
        StoreError: the store could not say what is due.
    """
    if getattr(core.store, "resources", None) is None:
        return 0, 0
    allowance = Allowance(left=limit, until=core.clock.monotonic() + LONGEST_RUN)
    runs = [
        _ProviderRun(core, instance.id, allowance)
        for instance in core.instances.values()
        if not instance.unset and instance.spec.subscriptions
    ]
    ended = await asyncio.gather(*(one.go() for one in runs), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error
    return sum(one.done for one in runs), sum(one.failed for one in runs)


@define(eq=False)
class _ProviderRun:
    """One provider's part of a run."""

    core: Core
    provider_id: str
    allowance: Allowance
    done: int = 0
    failed: int = 0
    in_a_row: int = 0
    reading: asyncio.Lock = field(factory=asyncio.Lock)

    async def go(self) -> None:
        async with aclosing(_due(self.core, self.provider_id)) as due:
            ended = await asyncio.gather(*(self._work(due) for _ in range(AT_ONCE)), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error

    async def _work(self, due: AsyncIterator[Subscription]) -> None:
        while True:
            async with self.reading:
                row = await anext(due, None)
            if row is None or self.core.closing or self.in_a_row >= IN_A_ROW:
                return
            if not self.allowance.take(self.core.clock.monotonic()):
                return
            try:
                if await attend(self.core, row.id):
                    self.done, self.in_a_row = self.done + 1, 0
                else:
                    self.allowance.give_back()
            except StoreError:
                raise
            except Exception as error:
                self.failed += 1
                if isinstance(error, (ReauthRequired, Conflict)):
                    continue
                self.in_a_row += 1
                if self.in_a_row == IN_A_ROW:
                    logger.warning("%s leaves %s alone for now: %d failures", RENEW, self.provider_id, IN_A_ROW)


async def _due(core: Core, provider_id: str) -> AsyncGenerator[Subscription]:
    """Each subscription that is due now, once, a page in memory at a time."""
    now, after = core.clock.now(), None
    while True:
        page = await core.store.resources.due_subscriptions(provider_id, before=now, after=after, limit=PAGE)
        for row in page:
            yield row
        if len(page) < PAGE:
            return
        assert page[-1].renew_at is not None
        after = (page[-1].renew_at, page[-1].id)


async def attend(core: Core, subscription_id: str, *, now_or_never: bool = False) -> Subscription | None:
    """Do what a subscription needs now; None where that is nothing, or another process does it.

    ``now_or_never`` renews it although it is not due.

    Raises:
        ServicesError: the provider did not do it; that, and when it is tried again, is kept.
    """
    async with holding(core, lease_of(subscription_id)) as held:
        row = await resources_of(core).subscription(subscription_id) if held else None
        now = core.clock.now()
        if row is None or row.status == "cancelled":
            return None
        if not now_or_never and (row.renew_at is None or row.renew_at > now):
            return None
        connection = await core.store.connections.get(row.connection_id)
        if connection.status != "active":
            return await _expire(core, connection, row)
        instance = core.instance(row.provider_id)
        try:
            spec = spec_of(instance, row.resource_type)
        except CapabilityUnsupported:  # a type that the provider had once
            return await _expire(core, connection, row)
        with Span(core, "subscription.renew", resource_type=row.resource_type, subscription=row.id) as span:
            span.about(connection)
            span.detail["action"] = action = _action(spec, row, now)
            return await _do(core, connection, spec, row, action)


def _action(spec: SubscriptionSpec, row: Subscription, now: datetime) -> str:
    """What ``row``, which is due, needs: the table of docs/explanation/subscriptions.md."""
    if row.replaced_by is not None:
        return "end"
    if row.confirmed_at is None:
        return "abandon" if row.replaces is not None else "unanswered"
    if is_over(row, now):
        return "expired"
    if not is_live(row, now):
        return "gone"
    return "renewal" if spec.renew is None else "extend"


async def _do(
    core: Core, connection: Connection, spec: SubscriptionSpec, row: Subscription, action: str
) -> Subscription | None:
    if action == "abandon":
        await abandon(core, row)
        return row
    if action == "end":
        return await _retire(core, connection, row)
    try:
        if action == "extend":
            try:
                return await extend(core, connection, spec, row)
            except Exception as error:
                if not is_gone(spec, error):
                    raise
            action = "gone"
        return await replace(core, connection, spec, row, reason=action)
    except (Conflict, StoreError):
        raise
    except Exception as error:
        # Where the connection ended with it, it is the connection that needs something; the rest waits for that.
        if (await core.store.connections.get(row.connection_id)).status == "active":
            await failed(core, connection, row, error, gone=action == "gone")
        raise


async def _expire(core: Core, connection: Connection, row: Subscription) -> Subscription | None:
    """Keep that the time of a subscription is over that cannot be renewed now; once."""
    now = core.clock.now()
    if row.status != "active" or not is_over(row, now):
        return None
    over = evolve(row, status="expired", status_reason="its time ended", updated_at=now)
    told = event_of(core, over, connection, "subscription.expired", expires_at=row.expires_at)
    try:
        return await resources_of(core).save_subscription(over, expected_version=row.version, event=told)
    except VersionConflict:
        return None


async def _retire(core: Core, connection: Connection, row: Subscription) -> Subscription | None:
    """End what was replaced, at the provider and here."""
    now = core.clock.now()
    jobs: tuple[NewJob, ...] = ()
    try:
        if not is_over(row, now):
            await subscription_calls.cancel(core, row)
    except Exception as error:
        tried = evolve(row, attempts=row.attempts + 1, status_reason=failure_text(error)[:500], updated_at=now)
        if tried.attempts < END_TRIES:
            later = evolve(tried, renew_at=now + timedelta(seconds=60.0 * tried.attempts))
            await _save(core, row, later)
            raise
        job = end_job(core, row)
        jobs = () if job is None else (job,)
    over = ended(row, "replaced", now)
    by = {} if row.replaced_by is None else {"replaced_by": row.replaced_by}
    told = event_of(core, over, connection, "subscription.cancelled", reason="replaced", **by)
    return await _save(core, row, over, told, jobs=jobs)


async def _save(
    core: Core, row: Subscription, changed: Subscription, *events: Event, jobs: tuple[NewJob, ...] = ()
) -> Subscription | None:
    try:
        return (await resources_of(core).save_subscriptions([(changed, row.version)], events=events, jobs=jobs))[0]
    except VersionConflict:
        return None  # somebody cancelled it
