"""Notifications: each recipient is told by a ledger of its own, in which only what was sent counts."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ..clock import uuid7
from ..errors import BadInput, LeaseLost, NotificationFailed, failure_text
from ..model import Event
from ..notifications import Notification, Recipient
from ..resources import Dispatch
from .core import Core, logger
from .handlers import Registration
from .known_names import NOTIFICATIONS
from .known_names import check as check_names
from .spans import Span

if TYPE_CHECKING:
    from ..handler_protocols import EventHandler, HandlerContext
    from ..notifications import Definition, NotificationSender, RecipientResolver
    from ..specs import NotificationSpec

LONGEST: Final = 3600.0
"""Seconds for all recipients of one event; each has a time of its own."""
AT_ONCE: Final = 8
"""Recipients of one event that are told at once."""
_MARGIN: Final = 5.0
"""Seconds by which a dispatch is kept from others for longer than its sender has."""


def handlers_of(specs: Iterable[NotificationSpec]) -> dict[str, Registration]:
    """The durable handlers of plugins' notifications, by name."""
    return {
        NOTIFICATIONS + spec.name: Registration(
            events=spec.events,
            timeout=LONGEST,
            handler=handler_of(
                spec.name,
                definition=spec.definition.resolve(),
                recipients=spec.recipients.resolve(),
                sender=spec.sender.resolve(),
                timeout=spec.timeout,
            ),
        )
        for spec in specs
    }


def handler_of(
    name: str,
    *,
    definition: Definition,
    recipients: RecipientResolver,
    sender: NotificationSender,
    timeout: float,
) -> EventHandler:
    """The durable handler that makes notifications of events.

    Raises:
        BadInput: the name is blank, or the time is not above 0.
    """
    if not name.strip():
        raise BadInput("A notification needs a name, under which it is remembered what was sent.", field="name")
    if not timeout > 0:
        raise BadInput("A sender has more than 0 seconds.", field="timeout")

    async def handler(event: Event, context: HandlerContext, /) -> None:
        async with asyncio.timeout(timeout):
            code = definition if isinstance(definition, str) else await definition(event, context)
            if code is None or not code.strip():
                return
            found = {one.key: one for one in await recipients(code, event, context) if one.id.strip()}
        few = asyncio.Semaphore(AT_ONCE)

        async def tell(recipient: Recipient) -> str:
            async with few:
                return await _tell(context, name, code, recipient, event, sender, timeout)

        faults = [fault for fault in await _all(tell(one) for one in found.values()) if fault]
        if faults:
            raise NotificationFailed(
                f"{len(faults)} of {len(found)} recipients of {name} could not be told: {faults[0]}",
                hint="They are told again with the next attempt, and the others are not.",
                metadata={"event_id": event.id, "failed": len(faults), "recipients": len(found)},
            )

    return handler


def key_of(name: str, definition: str, event_id: str, recipient: Recipient) -> str:
    """What a notification is known by; equal to the key of the Go system, so that its rows keep their meaning."""
    return hashlib.sha256(f"{name}|{definition}|{event_id}|{recipient.key}".encode()).hexdigest()


async def retry(core: Core, name: str, event_id: str) -> bool:
    """Make the dead handler of a notification due again for one event; False where it is not dead."""
    if await core.store.queues.requeue("outbox", event_id, handler=NOTIFICATIONS + name):
        return True
    await check_names(core, notification=name)
    return False


async def _all(calls: Iterable[Any]) -> list[str]:
    """Every result. A cancellation ends all of them before it goes on."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        results: list[str] = await asyncio.gather(*tasks)
        return results
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(
    context: HandlerContext,
    name: str,
    code: str,
    recipient: Recipient,
    event: Event,
    sender: NotificationSender,
    timeout: float,
) -> str:
    """Tell one recipient that was not told; gives why that failed, or nothing."""
    core = context.runtime._core
    key = key_of(name, code, event.id, recipient)
    begun = await core.store.once.begin_dispatch(
        Dispatch(
            id=uuid7(core.clock),
            key=key,
            event_id=event.id,
            projector=name,
            definition_code=code,
            recipient_key=recipient.key,
        ),
        owner=core.owner,
        seconds=timeout + _MARGIN,
    )
    if begun.state == "done":
        return ""
    if begun.state == "running":
        return "another process is telling one of them"
    with Span(
        core,
        "notification.send",
        provider_id=event.provider_id,
        connection_id=event.connection_id,
        scope=event.scope,
        handler=name,
        definition=code,
        attempt=begun.fence,
    ) as span:
        fault = ""
        try:
            async with asyncio.timeout(timeout):
                notification = Notification(
                    definition=code, recipient=recipient, event=event, key=key, attempt=begun.fence
                )
                await sender(notification, context)
        except (Exception, asyncio.CancelledError) as error:
            span.failed(error)
            fault = failure_text(error)[:500]
            await _finish(core, key, begun.fence, fault)
            if isinstance(error, asyncio.CancelledError):
                raise
            logger.warning("the notification %s could not be sent", name, exc_info=error)
            return fault
        return await _finish(core, key, begun.fence, fault)


async def _finish(core: Core, key: str, fence: int, fault: str) -> str:
    """Record how it ended; gives ``fault``, or what came of another that took it over meanwhile."""
    try:
        await core.store.once.finish_dispatch(
            key, owner=core.owner, fence=fence, status="failed" if fault else "sent", error=fault
        )
    except LeaseLost:
        return fault or "another process took one of them over"
    return fault
