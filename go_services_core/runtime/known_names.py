"""Names that a filter is given: one that exists nowhere is an error where nothing was found, not an empty answer."""

from __future__ import annotations

from typing import Final

from ..endpoints import ENDPOINT_PROVIDER
from ..errors import NotFound, ProviderNotFound
from .core import Core

NOTIFICATIONS: Final = "notifications."
"""Before the name of a notification: the name of its durable handler."""


async def check(
    core: Core,
    *,
    provider_id: str | None = None,
    connection_id: str | None = None,
    handler: str | None = None,
    notification: str | None = None,
) -> None:
    """Raise for a name of which nothing is known here.

    It is asked once nothing was found, so that what a provider or a handler left behind can be listed after it was
    removed.

    Raises:
        ProviderNotFound, ConnectionNotFound, NotFound: with the nearest known name, or all of them.
    """
    if provider_id is not None and provider_id != ENDPOINT_PROVIDER and provider_id not in core.instances:
        raise ProviderNotFound.named("provider", provider_id, core.instances)
    if connection_id is not None:
        await core.store.connections.get(connection_id)
    if handler is not None and handler not in (known := await _handlers(core)):
        raise NotFound.named("handler", handler, known)
    if notification is not None and NOTIFICATIONS + notification not in (known := await _handlers(core)):
        names = {name.removeprefix(NOTIFICATIONS) for name in known if name.startswith(NOTIFICATIONS)}
        raise NotFound.named("notification", notification, names)


async def _handlers(core: Core) -> set[str]:
    """The handlers of this process, and those that the store was told of."""
    return {*core.handlers, *(one.name for one in (await core.store.queues.outbox_status()).handlers)}
