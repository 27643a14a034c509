"""Renewing tokens: one flight per process; callers whose token is still valid never wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from ..errors import RefreshLocked, ServicesError
from .core import Core, Loaded
from .renewal import renew
from .spans import Span

RETRY = timedelta(seconds=10)
"""How long a token that is still valid is used before its renewal is looked into again."""
LEASES = 2.0
"""How many leases a caller waits for; the renewal itself goes on."""


async def ensure_fresh(core: Core, loaded: Loaded) -> Loaded:
    """``loaded`` with a token that is valid now.

    A token that is still valid is never waited for: its renewal runs beside the call.
    """
    if loaded.renew_at is None:
        return loaded
    now = core.clock.now()
    if now < loaded.renew_at:
        return loaded
    expires_at = loaded.credential.tokens.expires_at
    if expires_at is not None and now < expires_at:
        loaded.renew_at = min(now + RETRY, expires_at)  # an endpoint that fails is not asked by every call
        _flight(core, loaded.connection.id, loaded.credential.version, refused=False)
        return loaded
    return await refresh(core, loaded.connection.id, used=loaded.credential.version)


async def refresh(core: Core, connection_id: str, *, used: int | None, refused: bool = False) -> Loaded:
    """Renew the credential, or wait for whoever is renewing it, and give the result.

    ``used`` is the version that was found wanting: a newer one is adopted without asking the provider. ``refused``
    says that the provider does not take its access token any more, whatever its expiry says.

    Raises:
        ReauthRequired: the provider says that the grant is over; the connection is ``pending_reauth`` now.
        RefreshUnknown: nobody knows whether the refresh token was spent, and the one attempt to recover was made, or
            has to wait for the end of the access token.
        RefreshBackingOff: the last attempt failed, and it is not time for the next; ``metadata`` has ``retry_in``.
        RefreshLocked: whoever is renewing it did not finish in time.
        TransportError, TokenEndpointError, ProviderError: it failed; the connection stays active.
    """
    flight = _flight(core, connection_id, used, refused=refused)
    done, _ = await asyncio.wait(
        {flight}, timeout=LEASES * core.settings.refresh_lease
    )  # which does not cancel what it waits for
    if not done:
        raise RefreshLocked(
            f"The renewal of connection {connection_id} has not finished in time; it goes on.",
            metadata={"connection_id": connection_id},
        )
    try:
        return flight.result()
    except ServicesError as error:
        raise error.for_another() from error  # others wait for it too


async def finish(core: Core) -> None:
    """Wait for renewals in flight: a token that was issued must not be lost to a shutdown.

    Those that only wait for another process end by themselves.
    """
    core.closing = True
    while core.tasks:
        await asyncio.gather(*core.tasks, return_exceptions=True)


def _flight(core: Core, connection_id: str, used: int | None, *, refused: bool) -> asyncio.Task[Loaded]:
    """The running renewal of a connection, or a new one. It belongs to the runtime, not to the caller."""
    running = core.flights.get(connection_id)
    if running is not None:
        return running
    task = asyncio.create_task(_fly(core, connection_id, used, refused=refused), name=f"refresh {connection_id}")
    core.flights[connection_id] = task
    core.tasks.add(task)
    task.add_done_callback(lambda done: _landed(core, connection_id, done))
    return task


def _landed(core: Core, connection_id: str, task: asyncio.Task[Any]) -> None:
    core.tasks.discard(task)
    if core.flights.get(connection_id) is task:
        del core.flights[connection_id]
    if not task.cancelled():
        task.exception()  # asked for, or asyncio complains of one that no caller waited for; its span has logged it


async def _fly(core: Core, connection_id: str, used: int | None, *, refused: bool) -> Loaded:
    with Span(core, "refresh", connection_id=connection_id) as span:
        renewed = await renew(core, connection_id, used, refused=refused)
        span.about(renewed.connection)
        return renewed
