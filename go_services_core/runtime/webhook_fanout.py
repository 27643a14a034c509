"""From events to messages for endpoints: one job each, committed with the settlement of the event."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from attrs import evolve

from ..clock import uuid7
from ..endpoints import ENDPOINT_PROVIDER, SEND_JOB, Endpoint
from ..handled import Handled
from ..model import Event, NewJob
from .core import Core
from .handlers import Registration, register
from .webhook_endpoints import facet

if TYPE_CHECKING:
    from ..handler_protocols import HandlerContext

HANDLER: Final = "go_services.endpoints"
"""Name of the durable handler that brings events to endpoints."""
MESSAGE_DEAD: Final = "endpoint.message_dead"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def load(core: Core) -> None:
    """Make the handler known to this process. The store hears of it with the first endpoint: none costs nothing."""

    async def handler(event: Event, context: HandlerContext, /) -> Handled | None:
        return await fan_out(core, event)

    core.handlers[HANDLER] = Registration(events="*", handler=handler, dormant=True)


async def wake(core: Core) -> None:
    """Make the handler known to the store, once there is something for it to do."""
    known = core.handlers[HANDLER]
    if known.dormant:
        await register(core, {HANDLER: evolve(known, dormant=False)})


async def fan_out(core: Core, event: Event) -> Handled | None:
    """A job for each endpoint that gets ``event``; None where nobody does."""
    await wake(core)
    if not any(fnmatchcase(event.name, pattern) for pattern in core.endpoints.events):
        return None
    if event.name == MESSAGE_DEAD and event.payload.get("event") == MESSAGE_DEAD:
        return None  # endpoints that do not answer would be told of each other for ever
    jobs: list[NewJob] = []
    after: str | None = None
    while True:
        page = await facet(core).list(hearing=event.scope, after=after)
        jobs += [_job(core, event, one) for one in page.items if _hears(one, event)]
        after = page.next
        if after is None:
            return Handled(jobs=jobs) if jobs else None


def _hears(endpoint: Endpoint, event: Event) -> bool:
    return any(fnmatchcase(event.name, pattern) for pattern in endpoint.events)


def _job(core: Core, event: Event, endpoint: Endpoint) -> NewJob:
    return NewJob(
        id=_job_id(core, event, endpoint),
        kind=SEND_JOB,
        provider_id=ENDPOINT_PROVIDER,
        payload={
            "endpoint": endpoint.id,
            "message": message_id(event),
            "event": event.name,
            "body": body_of(event),
        },
        idempotency_key=f"{event.id}:{endpoint.id}",
        requested_by="runtime",
        order_key=endpoint.id if endpoint.ordered else None,
        created_at=core.clock.now(),
    )


def _job_id(core: Core, event: Event, endpoint: Endpoint) -> str:
    """Jobs of one endpoint sort by their events; the same event and endpoint has the same job."""
    if not _UUID.fullmatch(event.id):
        return uuid7(core.clock)
    return event.id[:24] + hashlib.sha256(f"{event.id}:{endpoint.id}".encode()).hexdigest()[:12]


def message_id(event: Event) -> str:
    """What a receiver tells messages apart by: the event's id, or its hash where that has characters of other use."""
    return event.id if _ID.fullmatch(event.id) else hashlib.sha256(event.id.encode()).hexdigest()


def body_of(event: Event) -> str:
    """The body of every attempt, as JSON of ASCII characters.

    ``type``, ``timestamp`` and ``data`` are what Standard Webhooks recommends
    (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, "Payload structure").
    """
    data = {
        "event_id": event.id,
        "version": event.version,
        "provider_id": event.provider_id,
        "scope": str(event.scope),
        "connection_id": event.connection_id,
        "payload": dict(event.payload),
    }
    timestamp = event.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": event.name, "timestamp": timestamp, "data": data}, separators=(",", ":"))
