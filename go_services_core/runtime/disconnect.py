"""Disconnecting: revoked at the provider first, then ended here; what could not be revoked is left to a job."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ..errors import LeaseLost, ReauthRequired, RefreshLocked, ServicesError, StoreError, VersionConflict, failure_text
from ..lifecycle import with_payload
from ..model import Connection, Disconnected, Event, Observation, SealedCredential
from ..redaction import mask
from ..refreshes import RefreshOpen
from .announce import proposed, told
from .core import Core, logger
from .load import open_credential
from .revocation import revocation_job, revoke
from .subscription_endings import leave_ends

if TYPE_CHECKING:
    from ..resources import Subscription

WAIT: Final = 30.0
"""Seconds that a disconnect waits for a renewal, here or in another process; then it goes on without."""
POLL: Final = 0.05
"""Seconds between looks at a renewal in another process."""
CANCEL_TIMEOUT: Final = 10.0
"""Seconds for cancelling the connection's subscriptions at the provider."""
DEADLINE: Final = 35.0
"""Seconds for all requests of a revocation."""
LEASE: Final = 60.0
"""Seconds for which nobody can renew meanwhile; longer than both together."""
TRIES: Final = 5
"""How often a credential is revoked that was replaced while its predecessor was being revoked."""


async def disconnect(core: Core, connection_id: str, *, reason: str) -> Disconnected:
    """End a connection; see ``Runtime.disconnect``."""
    reason = mask(reason)
    flight = core.flights.get(connection_id)
    if flight is not None:
        await asyncio.wait({flight}, timeout=WAIT)  # which does not cancel it
    core.forget(connection_id)
    facet = core.store.connections
    event: Event | None = None
    for _ in range(TRIES):
        opened, overtaken = await _hold(core, connection_id)
        if opened is not None:
            connection, row = opened.connection, opened.credential
        else:
            connection, active = await facet.load(connection_id)
            if connection.status == "disconnected":
                pending = bool(await facet.pending_revocations(connection_id))
                detail = "was disconnected before"
                return Disconnected(connection=connection, revoked=False, detail=detail, pending=pending)
            if active is None:
                event = event or await _propose(core, connection, reason)
                return await _commit(core, connection, reason, event, None, "there was no credential to revoke")
            row = active
        try:
            event = event or await _propose(core, connection, reason)  # before the provider is told
            late = (await facet.refresh_history(connection_id, row.version)).late
            if late is not None and opened is not None:  # it is what the provider knows now: save it, then revoke it
                saved = told(core, connection, "credential.refreshed", {"version": late.credential.version})
                await facet.close_refresh(
                    late.credential,
                    lease=opened.lease,
                    active_version=row.version,
                    event=saved,
                    adopted=late.intent_id,
                )
                continue
            newest = row if late is None else late.credential  # which nobody without the lease can save
            return await _end(core, connection, newest, reason, event, overtaken=overtaken, checked=late is None)
        except VersionConflict:
            await _let_go(core, opened)
        except BaseException:
            await _let_go(core, opened)
            raise
    raise VersionConflict(f"Connection {connection_id} is being connected or renewed by many at once; try again.")


async def _hold(core: Core, connection_id: str) -> tuple[RefreshOpen | None, bool]:
    """The lease without which nobody renews; or None, and whether a renewal is still going on.

    It has no intent: whoever finds it abandoned knows that no token request was sent under it.
    """
    waited = 0.0
    while True:
        try:
            facet = core.store.connections
            return await facet.open_refresh(connection_id, owner=core.owner, lease=LEASE, intent_id=None), False
        except ReauthRequired:
            return None, False
        except RefreshLocked:
            if waited >= WAIT:
                logger.warning("connection %s is disconnected although its renewal has not ended", connection_id)
                return None, True
            await core.clock.sleep(POLL)
            waited += POLL


async def _let_go(core: Core, opened: RefreshOpen | None) -> None:
    if opened is not None:
        with suppress(LeaseLost, StoreError):
            await core.store.connections.drop_refresh(opened.lease)


async def _propose(core: Core, connection: Connection, reason: str) -> Event:
    of = {"provider_id": connection.provider_id, "connection_id": connection.id}
    return await proposed(core, "connection.disconnected", {"reason": reason}, scope=connection.scope, **of)


async def _end(
    core: Core,
    connection: Connection,
    row: SealedCredential,
    reason: str,
    event: Event,
    *,
    overtaken: bool,
    checked: bool,
) -> Disconnected:
    """Tell the provider, then commit; ``checked`` has the commit fail where the credential was renewed meanwhile.

    It is False for a credential that came late, which is not the active one.
    """
    await _cancel(core, connection)
    pending = False
    try:
        credential = await open_credential(core, connection, row)
        async with asyncio.timeout(DEADLINE):
            revoked, detail = await revoke(core, connection, credential)
    except Exception as failed:  # a plugin's mistake may not keep the connection alive either
        logger.warning(
            "connection %s could not be revoked at once: %s", connection.id, failure_text(failed),
            exc_info=None if isinstance(failed, ServicesError) else failed,
        )  # fmt: skip
        revoked, pending = False, True
        detail = f"the provider could not be told: {failure_text(failed)}; it is tried again"
    return await _commit(
        core,
        connection,
        reason,
        event,
        row,
        detail,
        revoked=revoked,
        pending=pending,
        overtaken=overtaken,
        checked=checked,
    )


async def _commit(
    core: Core,
    connection: Connection,
    reason: str,
    event: Event,
    row: SealedCredential | None,
    detail: str,
    *,
    revoked: bool = False,
    pending: bool = False,
    overtaken: bool = False,
    checked: bool = False,
) -> Disconnected:
    cancelled = tuple(one.id for one in await _subscriptions(core, connection.id))
    payload = {
        "reason": reason,
        "revoked": revoked,
        "detail": detail,
        "pending": pending,
        "overtaken": overtaken,
        "cancelled": list(cancelled),
    }
    ended = await core.store.connections.disconnect(
        connection.id,
        reason=reason,
        event=with_payload(event, payload),
        version=row.version if row is not None and checked else None,
        job=revocation_job(core, connection, row) if row is not None and pending and checked else None,
    )
    if row is not None and pending and not checked:
        await core.store.connections.keep_for_revocation(row, revocation_job(core, connection, row))
    core.forget(connection.id)
    core.observe(
        Observation(
            name="connection.disconnected",
            at=core.clock.now(),
            provider_id=connection.provider_id,
            connection_id=connection.id,
        )
    )
    return Disconnected(
        connection=ended, revoked=revoked, detail=detail, pending=pending, overtaken=overtaken, cancelled=cancelled
    )


async def _cancel(core: Core, connection: Connection) -> None:
    """Have the connection's active subscriptions cancelled at the provider, while its credential still works."""
    cancel = core.cancel_subscription
    if cancel is None:
        return
    left = [one for one in await _subscriptions(core, connection.id) if one.status == "active"]
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT):
            while left:
                await cancel(connection, left[0])
                del left[0]
    except Exception as failed:
        logger.warning("subscriptions of connection %s could not be cancelled: %s", connection.id, failure_text(failed))
        await leave_ends(core, left)


async def _subscriptions(core: Core, connection_id: str) -> list[Subscription]:
    """Those that are not cancelled yet; a store may keep none."""
    resources = getattr(core.store, "resources", None)
    found: list[Subscription] = []
    after: str | None = None
    while resources is not None:
        page = await resources.subscriptions(connection_id=connection_id, after=after)
        found += [one for one in page.items if one.status != "cancelled"]
        after = page.next
        if after is None:
            break
    return found
