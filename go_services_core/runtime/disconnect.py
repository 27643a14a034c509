"""Disconnecting: revoked at the provider first, then ended here."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from ..clock import uuid7
from ..errors import ServicesError
from ..model import Connection, Credential, Disconnected, Event, Observation
from ..protocols import Flow
from .core import Core, logger
from .load import open_credential
from .settings_secrets import drive

if TYPE_CHECKING:
    from ..specs import AuthSpec

REVOKE_TIMEOUT = 15.0
"""Seconds for the revocation request."""


async def disconnect(core: Core, connection_id: str, *, reason: str) -> Disconnected:
    """End a connection; see ``Runtime.disconnect``."""
    flight = core.flights.get(connection_id)
    if flight is not None:
        with contextlib.suppress(Exception):
            await asyncio.shield(flight)
    core.forget(connection_id)
    connection, row = await core.store.connections.load(connection_id)
    if connection.status == "disconnected":
        return Disconnected(connection=connection, revoked=False, detail="was disconnected before")
    if row is None:
        revoked, detail = False, "there was no credential to revoke"
    else:
        try:
            revoked, detail = await revoke(core, connection, await open_credential(core, connection, row))
        except ServicesError as failed:
            revoked, detail = False, f"the provider could not be told: {failed.message}"
        except Exception as failed:  # a plugin's mistake may not keep the connection alive either
            logger.exception("revoking connection %s failed", connection_id)
            revoked, detail = False, f"the provider could not be told: {type(failed).__name__}"
    ended = await core.store.connections.disconnect(
        connection_id, reason=reason, event=_event(core, connection, reason, revoked, detail)
    )
    core.forget(connection_id)
    core.observe(
        Observation(
            name="connection.disconnected",
            at=core.clock.now(),
            provider_id=connection.provider_id,
            connection_id=connection_id,
        )
    )
    return Disconnected(connection=ended, revoked=revoked, detail=detail)


async def revoke(core: Core, connection: Connection, credential: Credential) -> tuple[bool, str]:
    """Revoke a credential at the provider, unless others live on the same grant; whether it was, and why not.

    Raises:
        ServicesError: the provider could not be told.
    """
    instance = core.instance(connection.provider_id)
    auth = instance.auth(connection.auth_kind)
    siblings = await _siblings(core, connection, auth)
    if siblings:
        return False, f"not revoked at the provider: that would end {siblings} of the same account as well"
    ctx = core.auth_context(instance, auth, connection.scope)

    def revocation() -> Flow[bool]:
        own = core.adapter(instance).revoke(ctx, credential)
        return own if own is not None else core.flow(auth.kind).revoke(ctx, credential)

    revoked = await drive(core, instance, revocation, timeout=REVOKE_TIMEOUT)
    return revoked, "revoked at the provider" if revoked else "the provider offers no revocation"


async def _siblings(core: Core, connection: Connection, auth: AuthSpec) -> str:
    """What else would end if the grant were revoked: active connections of the same account; empty without any."""
    if getattr(auth, "revocation_scope", "token") != "grant":
        return ""
    found = await core.store.connections.list(
        provider_id=connection.provider_id, external_account_id=connection.external_account_id, status="active"
    )
    others = [one.id for one in found.items if one.id != connection.id]
    if not others:
        return ""
    return f"connection {others[0]}" if len(others) == 1 else f"{len(others)} connections"


def _event(core: Core, connection: Connection, reason: str, revoked: bool, detail: str) -> Event:
    return Event(
        id=uuid7(core.clock),
        name="connection.disconnected",
        provider_id=connection.provider_id,
        scope=connection.scope,
        connection_id=connection.id,
        occurred_at=core.clock.now(),
        payload={"reason": reason, "revoked": revoked, "detail": detail},
    )
