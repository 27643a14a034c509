"""Telling a provider that tokens are of no use any more; again, by a job, where it could not be told at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from ..auth.identity import other_spellings
from ..errors import failure_text
from ..model import REVOKE_JOB, Claim, Connection, Credential, NewJob, SealedCredential
from ..protocols import Flow
from .announce import told
from .core import Core, logger
from .load import open_version
from .settings_secrets import drive

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec

REVOKE_TIMEOUT: Final = 15.0
"""Seconds for one revocation request."""
FIRST_DELAY: Final = 60.0
"""Seconds until a revocation that failed is tried again."""
GIVE_UP_AFTER: Final = timedelta(days=7)
"""How long a revocation is tried, and the ciphertext that it needs is kept."""
ATTEMPTS: Final = 150
"""How often it is tried at most; fewer than after which a job is set aside, so that no ciphertext is left behind."""


async def revoke(
    core: Core, connection: Connection, credential: Credential, *, ended: bool = False
) -> tuple[bool, str]:
    """Revoke a credential at the provider, unless others live on the same grant; whether it was, and why not.

    ``ended`` says that the connection ended before: if it is back, it is one of the others.

    Raises:
        ServicesError: the provider could not be told.
    """
    instance = core.instance(connection.provider_id)
    auth = instance.auth(connection.auth_kind)
    siblings = await _siblings(core, connection, auth, ended=ended)
    if siblings:
        return False, f"that would end {siblings} of the same account as well"
    ctx = core.auth_context(instance, auth, connection.scope)

    def revocation() -> Flow[bool]:
        own = core.adapter(instance).revoke(ctx, credential)
        return own if own is not None else core.flow(auth.kind).revoke(ctx, credential)

    revoked = await drive(core, instance, revocation, timeout=REVOKE_TIMEOUT)
    return revoked, "revoked at the provider" if revoked else "the provider offers no revocation"


async def _siblings(core: Core, connection: Connection, auth: AuthSpec, *, ended: bool) -> str:
    """What else would end if the grant were revoked: other connections of the account that live; empty without any."""
    if getattr(auth, "revocation_scope", "token") != "grant":
        return ""
    identity = core.instance(connection.provider_id).spec.identity
    issuer = (identity.issuer if identity is not None else None) or getattr(auth, "issuer", None)
    account, others = connection.external_account_id, []
    for name in (account, *other_spellings(account, issuer)):
        after: str | None = None
        while True:
            page = await core.store.connections.list(
                provider_id=connection.provider_id, external_account_id=name, after=after
            )
            living = (one.id for one in page.items if one.status not in ("disconnected", "pending_reauth"))
            others += [id for id in living if ended or id != connection.id]
            after = page.next
            if after is None:
                break
    if not others:
        return ""
    return f"connection {others[0]}" if len(others) == 1 else f"{len(others)} connections"


def revocation_job(core: Core, connection: Connection, row: SealedCredential) -> NewJob:
    """The job that revokes ``row``, whose id it has, and then destroys it."""
    return NewJob(
        id=row.id,
        kind=REVOKE_JOB,
        provider_id=connection.provider_id,
        scope=connection.scope,
        connection_id=connection.id,
        payload={"version": row.version, "auth_kind": connection.auth_kind},
        requested_by="runtime",
        delay=FIRST_DELAY,
        created_at=core.clock.now(),
    )


async def revoke_kept(core: Core, claim: Claim) -> float | None:
    """Revoke what a disconnect kept for it, and destroy that: when it was done, need not be, or is given up.

    Revoking twice is harmless (RFC 7009 §2.2), so that a process may die anywhere in here.

    Raises:
        ServicesError: the provider could not be told yet, or the credential not be opened.
    """
    job = claim.job
    assert job is not None
    assert job.connection_id is not None
    facet = core.store.connections
    connection = evolve(await facet.get(job.connection_id), auth_kind=job.payload["auth_kind"])
    row = next((row for row in await facet.credentials(connection.id) if row.id == job.id), None)
    if row is None:
        return None  # destroyed by an earlier run, which ended before it could say so
    try:
        credential = await open_version(core, connection, row)
        revoked, detail = await revoke(core, connection, credential, ended=True)
    except Exception as failed:
        if claim.attempt < ATTEMPTS and core.clock.now() < job.created_at + GIVE_UP_AFTER:
            raise
        revoked, detail = False, f"given up: {failure_text(failed)}"
        logger.warning("the tokens of connection %s were never revoked: %s", connection.id, detail)
    name = "credential.revoked" if revoked else "credential.revocation_failed"
    payload: dict[str, Any] = {"version": row.version, "attempts": claim.attempt, "detail": detail}
    await facet.destroy_credential(row.id, event=told(core, connection, name, payload))
    return None
