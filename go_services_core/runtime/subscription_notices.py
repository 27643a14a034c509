"""What providers say of subscriptions themselves: that notifications were missed, or that one was ended there.

Microsoft Graph calls them lifecycle notifications: ``missed`` and ``subscriptionRemoved``
(https://learn.microsoft.com/graph/change-notifications-lifecycle-events).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve

from . import subscriptions
from .core import Core
from .handlers import Registration
from .subscription_making import resources_of
from .subscription_rules import event_of

if TYPE_CHECKING:
    from ..handler_protocols import HandlerContext
    from ..model import Event
    from ..resources import Subscription


def handlers(core: Core) -> Mapping[str, Registration]:
    """The durable handlers of what the providers' records name."""
    found: dict[str, Registration] = {}
    for instance in core.instances.values():
        for spec in instance.spec.subscriptions:
            for event in spec.missed:
                name = f"subscriptions.missed.{instance.id}.{event}"
                handler = partial(_missed, core, instance.id)
                found[name] = Registration(events=f"webhook.{event}", handler=handler)
            for event in spec.removed:
                name = f"subscriptions.removed.{instance.id}.{event}"
                handler = partial(_removed, core, instance.id)
                found[name] = Registration(events=f"webhook.{event}", handler=handler)
    return found


async def _missed(core: Core, provider_id: str, event: Event, context: HandlerContext) -> None:
    """Report a gap since the subscription was last confirmed: this very notice is the last that came on it."""
    row = await _row(core, provider_id, event)
    if row is not None:
        await subscriptions.report_gap(core, row.id, since=row.confirmed_at, reason="missed")


async def _removed(core: Core, provider_id: str, event: Event, context: HandlerContext) -> None:
    """Have ``subscriptions.renew`` make another one at once. If the row changed meanwhile, the handler runs again."""
    row = await _row(core, provider_id, event)
    if row is None or row.status != "active" or row.replaced_by is not None:
        return
    now = core.clock.now()
    gone = evolve(row, status="errored", status_reason="the provider ended it", renew_at=now, updated_at=now)
    connection = await core.store.connections.get(row.connection_id)
    told = event_of(
        core, gone, connection, "subscription.renewal_failed",
        reason=gone.status_reason, attempts=gone.attempts, retry_at=now,
    )  # fmt: skip
    await resources_of(core).save_subscription(gone, expected_version=row.version, event=told)


async def _row(core: Core, provider_id: str, event: Event) -> Subscription | None:
    channel = event.payload.get("channel")
    if event.provider_id != provider_id or not channel:
        return None
    row = await resources_of(core).subscription_by_channel(provider_id, channel)
    return None if row is None or row.status == "cancelled" or row.confirmed_at is None else row
