"""Renewing tokens: one flight per process, one lease per database, saved before anyone sees it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..clock import uuid7
from ..errors import (
    CommitUnknown,
    InvalidGrant,
    InvalidTransition,
    LeaseLost,
    ProviderUnavailable,
    ReauthRequired,
    RefreshLocked,
    ServicesError,
    StoreUnavailable,
    TokenResponseInvalid,
    TransportError,
    VersionConflict,
    failure_code,
)
from ..model import Connection, Event, Observation, RefreshOpen, SealedCredential, TokenSet
from . import bindings
from .core import Core, Loaded, logger
from .load import load, open_credential, remember, require_active
from .payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION, carry_over, encode_tokens
from .settings_secrets import drive, prepared

if TYPE_CHECKING:
    from ..providers import ProviderInstance
    from ..specs import AuthSpec

LEASE = 60.0
"""Seconds that the lease lasts; longer than the request, so that a live holder never loses it."""
REQUEST_TIMEOUT = 30.0
"""Seconds for the token request."""
RETRY = timedelta(seconds=30)
"""How long a token that is still valid is used before its renewal is tried again."""
POLL = 0.05
"""Seconds between looks of a process that waits for another's refresh."""
SAVE_TRIES = 20


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
        _flight(core, loaded.connection.id, loaded.credential.version)
        return loaded
    return await refresh(core, loaded.connection.id, used=loaded.credential.version)


async def refresh(core: Core, connection_id: str, *, used: int | None) -> Loaded:
    """Renew the credential, or wait for whoever is renewing it, and give the result.

    ``used`` is the version that was found wanting: a newer one is adopted without asking the provider.

    Raises:
        ReauthRequired: the provider says that the grant is over; the connection is ``pending_reauth`` now.
        RefreshLocked: another process holds the lease and did not finish in time.
        TransportError, TokenEndpointError, ProviderError: it failed; the connection stays active.
    """
    return await asyncio.shield(_flight(core, connection_id, used))


def _flight(core: Core, connection_id: str, used: int | None) -> asyncio.Task[Loaded]:
    """The running renewal of a connection, or a new one. It belongs to the runtime, not to the caller."""
    running = core.flights.get(connection_id)
    if running is not None:
        return running
    task = asyncio.create_task(_fly(core, connection_id, used), name=f"refresh {connection_id}")
    core.flights[connection_id] = task
    core.tasks.add(task)
    task.add_done_callback(lambda done: _landed(core, connection_id, done))
    return task


def _landed(core: Core, connection_id: str, task: asyncio.Task[Any]) -> None:
    core.tasks.discard(task)
    if core.flights.get(connection_id) is task:
        del core.flights[connection_id]
    if not task.cancelled() and task.exception() is not None:
        logger.info("refresh of connection %s failed: %s", connection_id, type(task.exception()).__name__)


async def _fly(core: Core, connection_id: str, used: int | None) -> Loaded:
    began = core.clock.monotonic()
    failed: BaseException | None = None
    try:
        return await _renew(core, connection_id, used)
    except BaseException as error:
        failed = error
        raise
    finally:
        core.observe(
            Observation(
                name="refresh",
                at=core.clock.now(),
                ok=failed is None,
                duration_ms=(core.clock.monotonic() - began) * 1000,
                connection_id=connection_id,
                error_code=failure_code(failed),
            )
        )


async def _renew(core: Core, connection_id: str, used: int | None) -> Loaded:
    waited = 0.0
    while True:
        since = core.changes
        connection, row = await core.store.connections.load(connection_id)
        require_active(connection)
        if row is not None and used is not None and row.version > used:
            return remember(core, connection, row, await open_credential(core, connection, row), since=since)
        instance = core.instance(connection.provider_id)
        auth = instance.auth(connection.auth_kind)
        await prepared(core, instance)
        # The data key for the answer must be at hand before the request leaves: this seal fetches and caches it.
        await core.sealer.seal(b"", bindings.credential(connection_id, 0, instance.id, connection.scope))
        try:
            opened = await core.store.connections.open_refresh(
                connection_id, owner=core.owner, lease=LEASE, intent_id=uuid7(core.clock)
            )
        except RefreshLocked:
            if waited >= LEASE:
                raise
            await core.clock.sleep(POLL)
            waited += POLL
            continue
        if used is not None and opened.credential.version > used:
            await core.store.connections.fail_refresh(opened.lease, error="", terminal=False, event=None, state="ok")
            core.forget(connection_id)
            return await load(core, connection_id)
        return await _exchange(core, instance, auth, opened)


async def _exchange(core: Core, instance: ProviderInstance, auth: AuthSpec, opened: RefreshOpen) -> Loaded:
    connection, row = opened.connection, opened.credential
    facet = core.store.connections
    try:
        credential = await open_credential(core, connection, row)
        ctx = core.auth_context(instance, auth, connection.scope, requested=row.requested)
        tokens: TokenSet = await drive(
            core, instance, lambda: core.flow(auth.kind).refresh(ctx, credential), timeout=REQUEST_TIMEOUT
        )
    except InvalidGrant as refused:
        return await _ended(core, opened, refused)
    except ReauthRequired:
        with suppress(LeaseLost):
            await facet.fail_refresh(opened.lease, error="", terminal=False, event=None, state="ok")
        raise
    except BaseException as error:
        unknown = getattr(auth, "rotation", "none") != "none" and _may_have_renewed(error)
        with suppress(LeaseLost):
            await facet.fail_refresh(
                opened.lease,
                error=error.message if isinstance(error, ServicesError) else type(error).__name__,
                terminal=False,
                event=None,
                state="unknown" if unknown else "backing_off",
            )
        raise
    return await _save(core, instance, opened, carry_over(tokens, credential.tokens))


def _may_have_renewed(error: BaseException) -> bool:
    """Whether the provider may have spent the refresh token although no new one arrived (protocols, Refresh 3)."""
    if isinstance(error, TransportError):
        return error.sent
    if isinstance(error, ProviderUnavailable):
        return error.upstream_status in (502, 504)  # a gateway's answer says nothing of what stood behind it
    return isinstance(error, TokenResponseInvalid) or not isinstance(error, ServicesError)


async def _ended(core: Core, opened: RefreshOpen, refused: InvalidGrant) -> Loaded:
    """The grant is over, unless a newer credential was stored meanwhile: then that one is the truth."""
    connection = opened.connection
    event = _event(core, connection, "connection.pending_reauth", {"reason": refused.error})
    try:
        await core.store.connections.fail_refresh(opened.lease, error=refused.message, terminal=True, event=event)
    except LeaseLost:
        return await _renew(core, connection.id, opened.credential.version)
    core.forget(connection.id)
    try:
        return await load(core, connection.id)
    except ReauthRequired as ended:
        raise ended from refused


async def _save(core: Core, instance: ProviderInstance, opened: RefreshOpen, tokens: TokenSet) -> Loaded:
    """Commit the new tokens. They exist nowhere else, so a failing store is tried again, not given up."""
    connection, old = opened.connection, opened.credential
    version = old.version + 1
    now = core.clock.now()
    binding = bindings.credential(connection.id, version, instance.id, connection.scope)
    new = SealedCredential(
        id=uuid7(core.clock),
        connection_id=connection.id,
        version=version,
        sealed=await core.sealer.seal(encode_tokens(tokens), binding),
        payload_format=CREDENTIAL_FORMAT,
        payload_version=CREDENTIAL_VERSION,
        token_type=tokens.token_type,
        requested=old.requested,
        granted=tokens.granted,
        expires_at=tokens.expires_at,
        refresh_expires_at=tokens.refresh_expires_at,
        refreshable=tokens.refresh_token is not None,
        created_at=now,
    )
    event = _event(core, connection, "credential.refreshed", {"version": version})
    for attempt in range(1, SAVE_TRIES + 1):
        try:
            await core.store.connections.close_refresh(new, lease=opened.lease, active_version=old.version, event=event)
            break
        except (StoreUnavailable, CommitUnknown):  # where it was committed after all, the lease is gone
            if attempt == SAVE_TRIES:
                raise
            await core.clock.sleep(min(0.1 * attempt, 1.0))
        except (LeaseLost, VersionConflict, InvalidTransition):  # somebody else was quicker: theirs is the truth
            with suppress(LeaseLost):
                await core.store.connections.fail_refresh(
                    opened.lease, error="", terminal=False, event=None, state="ok"
                )
            break
    core.forget(connection.id)
    return await load(core, connection.id)


def _event(core: Core, connection: Connection, name: str, payload: dict[str, Any]) -> Event:
    return Event(
        id=uuid7(core.clock),
        name=name,
        provider_id=connection.provider_id,
        scope=connection.scope,
        connection_id=connection.id,
        occurred_at=core.clock.now(),
        payload=payload,
    )
