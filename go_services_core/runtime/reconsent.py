"""Asking the person of a connection again: for more, or because it may not be used until they have consented."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import BadInput, InvalidTransition
from ..model import Connection, ConnectStart, Observation
from ..secret import SecretStr
from .announce import proposed
from .connect import connect, default_grants
from .core import Core


async def reconsent(
    core: Core,
    connection_id: str,
    *,
    grants: Iterable[str],
    redirect_uri: str | None,
    session: SecretStr | str | None,
    return_to: str | None,
) -> ConnectStart:
    """Begin a consent for a connection; see ``Runtime.reconsent``."""
    if isinstance(grants, str):
        raise BadInput("Grants are a list of names, not one text.", field="grants")
    connection, row = await core.store.connections.load(connection_id)
    if connection.status == "disconnected":
        raise InvalidTransition(
            f"Connection {connection_id} was disconnected.",
            hint="Begin a new consent with Runtime.connect.",
            metadata={"connection_id": connection_id, "status": connection.status},
        )
    before = row.requested if row is not None else ()
    if not before:  # an adopted one may not say it
        newest = await core.store.connections.grants(connection_id)
        instance = core.instance(connection.provider_id)
        asked = newest.requested if newest is not None else ()
        before = asked or default_grants(instance, instance.auth(connection.auth_kind))
    return await connect(
        core,
        connection.provider_id,
        scope=connection.scope,
        redirect_uri=redirect_uri,
        grants=(*before, *grants),
        auth=connection.auth_kind,
        connection_id=connection_id,
        session=session,
        return_to=return_to,
    )


async def require_reconsent(core: Core, connection_id: str, *, reason: str) -> Connection:
    """Stop the use of a connection until its person consents; see ``Runtime.require_reconsent``."""
    if not reason.strip():
        raise BadInput("A reason is needed: people are told it.", field="reason")
    known = await core.store.connections.get(connection_id)
    event = await proposed(
        core,
        "connection.needs_reconsent",
        {"reason": reason},
        provider_id=known.provider_id,
        scope=known.scope,
        connection_id=connection_id,
    )
    connection = await core.store.connections.require_reconsent(connection_id, reason=reason, event=event)
    core.forget(connection_id)
    if known.status != "needs_reconsent":
        core.observe(
            Observation(
                name="connection.needs_reconsent",
                at=event.occurred_at,
                provider_id=known.provider_id,
                connection_id=connection_id,
            )
        )
    return connection
