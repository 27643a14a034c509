"""The durable handlers of this process, and how each is called."""

from __future__ import annotations

import math
from asyncio import Semaphore
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from attrs import Attribute, field, frozen

from ..delivery_specs import InboxPolicy, Schedule
from ..errors import BadInput
from ..model import Event

if TYPE_CHECKING:
    from ..handler_protocols import EventHandler
    from .core import Core

SEEN_EVERY: Final = 60.0
"""Seconds after which a process that works tells the store again which handlers it has."""
_STANDARD: Final = Schedule()


def _timeout(record: object, attribute: Attribute[float | None], value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise BadInput(f"A handler has more than 0 seconds, not {value!r}.", field=attribute.name)


def _concurrency(record: object, attribute: Attribute[int | None], value: int | None) -> None:
    if value is not None and value < 1:
        raise BadInput(f"A handler runs at least once at a time, not {value!r}.", field=attribute.name)


@frozen(kw_only=True)
class Registration:
    """A handler, the events that it gets, and how it is called."""

    events: str
    handler: EventHandler
    timeout: float | None = field(default=None, validator=_timeout)
    schedule: Schedule | None = None
    concurrency: int | None = field(default=None, validator=_concurrency)
    dormant: bool = False
    """Whether the store hears of it only once it is used: until then no event is handed to it."""


async def register(core: Core, handlers: Mapping[str, Registration]) -> None:
    """Make handlers known, here and in the store: events from before do not reach a name that is new."""
    for name in handlers:
        if not name.strip():
            raise BadInput("A handler needs a name that stays the same.", field="name")
    await _tell(core, handlers)
    core.handlers.update(handlers)


async def keep_seen(core: Core) -> None:
    """Tell the store which handlers this process has, if it was not told lately."""
    known = {name: one for name, one in core.handlers.items() if not one.dormant}
    if known and core.clock.monotonic() - core.handlers_told >= SEEN_EVERY:
        core.handlers_told = core.clock.monotonic()
        await _tell(core, known)


async def _tell(core: Core, handlers: Mapping[str, Registration]) -> None:
    patterns = {name: one.events for name, one in handlers.items()}
    await core.store.queues.register_handlers(patterns, now=core.clock.now())


def policy_of(core: Core, event: Event) -> InboxPolicy | None:
    """What the provider's record says of its webhooks, for an event that comes from one."""
    instance = core.instances.get(event.provider_id) if event.source == "webhook" else None
    return instance.spec.inbox if instance is not None else None


def schedule_of(core: Core, one: Registration, event: Event) -> Schedule:
    """When the handler is called again for ``event``."""
    policy = policy_of(core, event)
    return one.schedule or (policy.schedule if policy is not None else _STANDARD)


def seconds_of(core: Core, one: Registration, event: Event) -> float:
    """How long the handler has for ``event``."""
    policy = policy_of(core, event)
    return one.timeout or (policy.timeout if policy is not None else core.worker.handler_timeout)


def limits_of(core: Core, name: str, event: Event) -> list[Semaphore]:
    """What bounds how many runs of this handler, and for this provider, one process has at once."""
    found = []
    policy = policy_of(core, event)
    for key, most in (
        (f"handler {name}", core.handlers[name].concurrency),
        (f"provider {event.provider_id}", policy.concurrency if policy is not None else None),
    ):
        if most is not None:
            found.append(core.limits.setdefault((key, most), Semaphore(most)))
    return found
