"""What tests of subscriptions ask of an application and of the sandbox."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from go_services_core import Runtime
from go_services_core.model import Event
from go_services_core.resources import Subscription
from go_services_core.runtime.sealed_values import open_verification

from .conftest import App

RENEW = "subscriptions.renew"
CALLBACK = "http://127.0.0.1:9/webhooks"
KINDS = ("items", "folder")
"""Channels, which are replaced, and subscriptions, whose end is moved."""
CREATES = {"items": "channels.watch", "folder": "subscriptions.create"}
ENDS = {"items": "channels.stop", "folder": "subscriptions.end"}
LIVES = {"items": timedelta(days=7), "folder": timedelta(days=3)}


async def subscribed(app: App, runtime: Runtime, kind: str, resource: str = "1", who: str = "u1") -> Subscription:
    connection = await app.connect(runtime, who)
    return await runtime.subscribe(connection.id, kind, resource, callback_url=CALLBACK)


async def told(runtime: Runtime, prefix: str = "subscription.") -> list[Event]:
    """The events of subscriptions, in the order in which they were committed as far as their ids have one."""
    await runtime._core.store.queues.register_handlers(
        {"all": "*"}, now=runtime._core.clock.now() - timedelta(days=999)
    )
    found: list[Event] = []
    while claims := await runtime._core.store.queues.claim(
        "outbox", owner="test", lease=60, limit=100, handlers=["all"]
    ):
        found += [claim.event for claim in claims if claim.event is not None]
        await runtime._core.store.queues.settle_many(claims, "done")
    return sorted((one for one in found if one.name.startswith(prefix)), key=lambda one: one.occurred_at)


def names(events: list[Event]) -> list[str]:
    return [event.name.removeprefix("subscription.") for event in events]


async def token(runtime: Runtime, row: Subscription) -> str:
    """The verification token in a row, opened under the binding that deliveries are verified with."""
    connection = await runtime.connection(row.connection_id)
    return (await open_verification(runtime._core.sealer, row, connection.scope)).reveal()


def live(app: App) -> list[Any]:
    """What the provider would tell of changes."""
    return app.sandbox.channels.live(app.sandbox.ledger.now)
