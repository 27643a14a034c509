"""One renewal, step by step: lease and intent, what a predecessor left, the request, saving what it brought.

``docs/explanation/refresh.md`` has the protocol and its state table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import frozen

from ..clock import uuid7
from ..errors import (
    InvalidGrant,
    InvalidTransition,
    LeaseLost,
    ReauthRequired,
    RefreshLocked,
    RefreshUnknown,
    RequestTimeout,
    SecretError,
    StoreError,
    VersionConflict,
    failure_text,
)
from ..model import Connection, Credential, Event, Observation, SealedCredential, TokenSet
from ..refreshes import LateToken, RefreshHistory, RefreshOpen
from . import bindings, refresh_rules
from .announce import told
from .core import Core, Loaded, logger
from .grants import drifted
from .load import load, open_credential, remember, require_active
from .payload import CREDENTIAL_FORMAT, CREDENTIAL_VERSION, carry_over, encode_tokens
from .revocation import revocation_job, revoke
from .settings_secrets import drive, prepared
from .spans import retrying

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..providers import ProviderInstance

T = TypeVar("T")

ONE_REQUEST: Final = 2 / 3
"""Of the deadline for all requests of an attempt: the part that one of them may take."""
PATIENCE: Final = 5.0
"""Seconds at most that a successor waits beyond the deadline of its predecessor, whose token may be on its way to the
store; not longer than the predecessor's lease may have lasted."""
POLL: Final = 0.05
"""Seconds between looks of a process that waits for another's refresh."""
NAP: Final = 2.0
"""Seconds between looks of a successor that waits for its predecessor's token."""
LONGEST_NAP: Final = 5.0
"""Seconds between two tries to store a new token."""
KEEP: Final = 600.0
"""Seconds for which storing a new token is tried."""
GONE: Final = "The process that renewed it is gone, and its token did not come."


class _Again(Exception):
    """Somebody else holds the lease now: look what they have made of it."""


@frozen(kw_only=True)
class _Attempt:
    """What one attempt works on."""

    instance: ProviderInstance
    auth: AuthSpec
    opened: RefreshOpen
    began: float
    """By the monotonic clock, when the lease was taken."""


async def renew(core: Core, connection_id: str, used: int | None, *, refused: bool) -> Loaded:
    """Renew the credential once, or wait for whoever does; see ``refresh.refresh`` for the errors.

    ``refused`` says that the provider does not take the access token of version ``used`` any more.
    """
    waited = 0.0
    facet, seconds = core.store.connections, core.settings.refresh_lease
    while True:
        _require_open(core, connection_id)
        since = core.changes
        connection, row = await facet.load(connection_id)
        require_active(connection)
        if row is None:
            raise ReauthRequired(f"Connection {connection_id} has no credential; connect it again.")
        if used is not None and row.version > used:
            return remember(core, connection, row, await open_credential(core, connection, row), since=since)
        instance = core.instance(connection.provider_id)
        auth = instance.auth(connection.auth_kind)
        if connection.refresh_state != "ok":
            history = await facet.refresh_history(connection_id, row.version)
            if history.late is None:
                _permit(core, history, auth, row, refused=refused)
        await prepared(core, instance)
        # The data key for the answer must be at hand before the request leaves: this seal fetches and caches it.
        await core.sealer.seal(b"", bindings.credential(connection_id, 0, instance.id, connection.scope))
        began = core.clock.monotonic()
        try:
            opened = await facet.open_refresh(
                connection_id, owner=core.owner, lease=seconds, intent_id=uuid7(core.clock)
            )
        except RefreshLocked:
            if waited >= seconds:
                raise
            await core.clock.sleep(POLL)
            waited += POLL
            continue
        attempt = _Attempt(instance=instance, auth=auth, opened=opened, began=began)
        try:
            return await _under_lease(core, attempt, used, refused=refused)
        except _Again:
            continue


def _require_open(core: Core, connection_id: str) -> None:
    """End what has nothing in hand when the runtime is closed, which would wait for it.

    Raises:
        RefreshLocked: it is being closed.
    """
    if core.closing:
        raise RefreshLocked(
            f"The runtime is being closed; connection {connection_id} was not renewed here.",
            metadata={"connection_id": connection_id},
        )


def _permit(core: Core, history: RefreshHistory, auth: AuthSpec, row: SealedCredential, *, refused: bool) -> None:
    ended = refused or (row.expires_at is not None and core.clock.now() >= row.expires_at)
    refresh_rules.permit(history, auth, connection_id=row.connection_id, ended=ended)


async def _under_lease(core: Core, attempt: _Attempt, used: int | None, *, refused: bool) -> Loaded:
    opened = attempt.opened
    connection, row = opened.connection, opened.credential
    if used is not None and row.version > used:
        await _drop(core, opened)
        core.forget(connection.id)
        return await load(core, connection.id)
    history = RefreshHistory()
    if opened.abandoned is not None or connection.refresh_state != "ok":
        try:
            history = await _what_was_tried(core, attempt)
            if history.late is not None:
                return await _adopt(core, attempt, history.late)
            _permit(core, history, attempt.auth, row, refused=refused)
        except LeaseLost:
            raise _Again from None
        except _Again:
            raise
        except BaseException:
            await _drop(core, opened)
            raise
    return await _exchange(core, attempt, history)


# --- what a predecessor left ---------------------------------------------------------------------------------------


async def _what_was_tried(core: Core, attempt: _Attempt) -> RefreshHistory:
    """The history of the version, once a predecessor has had its time; what that one has left is settled.

    Raises:
        LeaseLost: our own lease was taken over meanwhile.
    """
    opened, facet = attempt.opened, core.store.connections
    row, abandoned = opened.credential, opened.abandoned
    history = await facet.refresh_history(row.connection_id, row.version)
    if abandoned is None:
        return history
    lease = core.settings.refresh_lease
    deadline = core.settings.refresh_deadline
    left = deadline + min(PATIENCE, lease - deadline) - abandoned.age
    while history.late is None and left > 0:
        nap = min(left, NAP, lease / 2)
        await core.clock.sleep(nap)
        _require_open(core, row.connection_id)
        left -= nap
        await facet.renew_refresh(opened.lease, seconds=lease)
        history = await facet.refresh_history(row.connection_id, row.version)
    if history.late is not None:
        return history
    unknown = refresh_rules.rotates(attempt.auth)
    await facet.settle_abandoned(
        opened.lease,
        abandoned.intent_id,
        outcome="unknown" if unknown else "failed",
        error=GONE,
        event=_lost(core, opened.connection, row) if unknown and history.unknown else None,
        seconds=lease,
    )
    return await facet.refresh_history(row.connection_id, row.version)


async def _adopt(core: Core, attempt: _Attempt, late: LateToken) -> Loaded:
    """Save the token that a predecessor did get; it is bound as the next version already."""
    await _close(core, attempt, late.credential, adopted=late.intent_id)
    core.forget(attempt.opened.connection.id)
    return await load(core, attempt.opened.connection.id)


async def _drop(core: Core, opened: RefreshOpen) -> None:
    """Say that nothing was sent. Where the store cannot be told, the successor takes it for abandoned."""
    with suppress(LeaseLost, StoreError):
        await core.store.connections.drop_refresh(opened.lease)


# --- asking the provider -------------------------------------------------------------------------------------------


async def _exchange(core: Core, attempt: _Attempt, history: RefreshHistory) -> Loaded:
    opened, instance, auth = attempt.opened, attempt.instance, attempt.auth
    connection, row, settings = opened.connection, opened.credential, core.settings
    try:
        credential = await open_credential(core, connection, row)
        ctx = core.auth_context(instance, auth, connection.scope, requested=row.requested)
        if core.clock.monotonic() - attempt.began > (settings.refresh_lease - settings.refresh_deadline) / 2:
            await core.store.connections.renew_refresh(opened.lease, seconds=settings.refresh_lease)
    except LeaseLost:
        raise _Again from None
    except BaseException:
        await _drop(core, opened)
        raise
    try:
        async with asyncio.timeout(settings.refresh_deadline):
            tokens: TokenSet = await drive(
                core,
                instance,
                lambda: core.flow(auth.kind).refresh(ctx, credential),
                timeout=settings.refresh_deadline * ONE_REQUEST,
            )
    except InvalidGrant as said:
        return await _ended(core, attempt, said)
    except ReauthRequired:
        await _drop(core, opened)
        raise
    except TimeoutError as late:
        error = RequestTimeout(f"The token endpoint of {instance.id} did not answer in time.")
        raise await _failed(core, attempt, history, error) from late
    except BaseException as error:
        told = await _failed(core, attempt, history, error)
        if told is error:
            raise
        raise told from error
    if tokens.id_token_refused:
        _doubt(core, connection, tokens.id_token_refused)
    return await _save(core, attempt, carry_over(tokens, credential.tokens))


def _doubt(core: Core, connection: Connection, why: str) -> None:
    """Say that a renewal's ID token was left out; its tokens are kept, since the former ones may be spent."""
    logger.warning("the ID token of a renewal of connection %s was left out: %s", connection.id, why)
    core.observe(
        Observation(
            name="credential.id_token_refused",
            at=core.clock.now(),
            ok=False,
            provider_id=connection.provider_id,
            connection_id=connection.id,
            detail={"reason": why},
        )
    )


async def _failed(core: Core, attempt: _Attempt, history: RefreshHistory, error: BaseException) -> BaseException:
    """Settle an attempt without a token; gives what the callers get to know."""
    opened = attempt.opened
    connection_id = opened.connection.id
    state = refresh_rules.outcome(error, attempt.auth)
    lost = state == "unknown" and history.unknown > 0
    pause = refresh_rules.pause(history.failed + 1, error, core.clock.random(4))
    try:
        await core.store.connections.fail_refresh(
            opened.lease,
            error=failure_text(error),
            terminal=False,
            event=_lost(core, opened.connection, opened.credential) if lost else None,
            state=state,
            retry_in=pause,
        )
    except LeaseLost:
        pass  # whoever took it over has settled this attempt
    except StoreError as unsaid:  # the successor finds the intent unsettled, and treats it as what it may have been
        logger.warning("how a refresh of connection %s ended could not be stored: %s", connection_id, unsaid)
    if not lost:
        of = opened.connection
        retrying(core, "refresh", error, pause, provider_id=of.provider_id, connection_id=connection_id, scope=of.scope)
        return error
    return RefreshUnknown(
        f"The tokens of connection {connection_id} were lost: two renewals ended without a readable answer.",
        hint="Connect it again.",
        metadata={"connection_id": connection_id},
    )


async def _ended(core: Core, attempt: _Attempt, said: InvalidGrant) -> Loaded:
    """The grant is over, unless a newer credential was stored meanwhile, or the token of a predecessor."""
    opened, facet = attempt.opened, core.store.connections
    connection, row = opened.connection, opened.credential
    late = (await facet.refresh_history(connection.id, row.version)).late
    if late is not None:
        return await _adopt(core, attempt, late)
    event = told(core, connection, "connection.pending_reauth", {"reason": said.error})
    try:
        await facet.fail_refresh(opened.lease, error=said.message, terminal=True, event=event)
    except LeaseLost:
        raise _Again from None
    core.forget(connection.id)
    try:
        return await load(core, connection.id)
    except ReauthRequired as ended:
        raise ended from said


# --- saving --------------------------------------------------------------------------------------------------------


async def _save(core: Core, attempt: _Attempt, tokens: TokenSet) -> Loaded:
    """Commit the new tokens. They exist nowhere else."""
    connection, old = attempt.opened.connection, attempt.opened.credential
    version = old.version + 1
    binding = bindings.credential(connection.id, version, attempt.instance.id, connection.scope)
    plain = encode_tokens(tokens)
    # The data key that was at hand may be over its time by now, and whoever gives another one be away.
    sealed = await _persistently(core, attempt.opened, lambda: core.sealer.seal(plain, binding))
    new = SealedCredential(
        id=uuid7(core.clock),
        connection_id=connection.id,
        version=version,
        sealed=sealed,
        payload_format=CREDENTIAL_FORMAT,
        payload_version=CREDENTIAL_VERSION,
        token_type=tokens.token_type,
        requested=old.requested,
        granted=tokens.granted,
        expires_at=tokens.expires_at,
        refresh_expires_at=tokens.refresh_expires_at,
        refreshable=refresh_rules.renewable(core.flow(attempt.auth.kind), attempt.auth, tokens),
        created_at=core.clock.now(),
    )
    if not await _close(core, attempt, new):
        await _give_back(core, new, tokens)
    core.forget(connection.id)
    return await load(core, connection.id)


async def _give_back(core: Core, new: SealedCredential, tokens: TokenSet) -> None:
    """Revoke a token that came after its connection was disconnected: whoever did that could not know of it."""
    facet = core.store.connections
    connection = await facet.get(new.connection_id)
    if connection.status != "disconnected":
        return
    credential = Credential(connection_id=connection.id, version=0, auth_kind=connection.auth_kind, tokens=tokens)
    try:
        await revoke(core, connection, credential, ended=True)
    except Exception as failed:
        kept = await facet.keep_for_revocation(new, revocation_job(core, connection, new))
        logger.warning(
            "a token that came after connection %s was disconnected could not be revoked: %s; %s",
            connection.id,
            failure_text(failed),
            "it is tried again" if kept else "its connection is back, so that it is not tried again",
        )


async def _close(core: Core, attempt: _Attempt, new: SealedCredential, *, adopted: str | None = None) -> bool:
    """Store ``new``; False where a consent, or the end of the connection, is the truth instead.

    Raises:
        _Again: the lease is another's, and ``new`` is kept for them if they can use it.
        StoreError: the store did not take it for :data:`KEEP` seconds.
    """
    opened, facet = attempt.opened, core.store.connections
    event = told(core, opened.connection, "credential.refreshed", {"version": new.version})
    connection, old = opened.connection, opened.credential
    drift = drifted(
        core, attempt.instance, connection.scope, connection.id, new.requested, new.granted, before=old.granted
    )
    try:
        await _persistently(
            core,
            opened,
            lambda: facet.close_refresh(
                new, lease=opened.lease, active_version=old.version, event=event, adopted=adopted, also=drift
            ),
        )
    except LeaseLost:
        connection, row = await _persistently(core, opened, lambda: facet.load(new.connection_id))
        if connection.status == "disconnected":
            return False
        if row is not None and row.version >= new.version:
            return True  # ours, committed although the answer was lost, or one that followed it
        if adopted is None:
            await _persistently(core, opened, lambda: facet.keep_late(opened.lease, new))
        raise _Again from None
    except (VersionConflict, InvalidTransition):
        await _drop(core, opened)
        return False
    return True


async def _persistently(core: Core, opened: RefreshOpen, write: Callable[[], Awaitable[T]]) -> T:
    """Do ``write``, again and again while store or secret backend fail, under a lease that is renewed."""
    waited, nap = 0.0, 0.1
    while True:
        try:
            return await write()
        except (
            StoreError,
            SecretError,
        ) as error:  # where it was committed after all, the next try finds the lease gone
            if waited >= KEEP:
                logger.error("a new token of connection %s could not be stored: %s", opened.connection.id, error)
                raise
            logger.warning("a new token of connection %s waits to be stored: %s", opened.connection.id, error)
        await core.clock.sleep(nap)
        waited, nap = waited + nap, min(nap * 2, LONGEST_NAP, core.settings.refresh_lease / 2)
        with suppress(StoreError, LeaseLost):
            await core.store.connections.renew_refresh(opened.lease, seconds=core.settings.refresh_lease)


def _lost(core: Core, connection: Connection, row: SealedCredential) -> Event:
    return told(core, connection, "credential.refresh_unknown", {"version": row.version})
