"""Open OAuth consents: taken once, by the browser that began them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from go_services_core.errors import BindingMismatch, StateExpired, StateInvalid, StateUnknown, StateUsed
from go_services_core.model import Attempt, KeyRef, Scope, Sealed

from .dialect import Json, read_json, read_time
from .models import AttemptRow
from .statement import Row, Statement, Steps, insert

LIMIT: Final = 5
"""Callbacks from a wrong browser that end an attempt."""
KEPT: Final = timedelta(days=1)
"""How long an attempt stays after its expiry, so that a late callback is told why."""


def _attempt_of(row: Row) -> Attempt:
    return Attempt(
        id=row[0],
        state_hash=bytes(row[1]),
        binding_hash=bytes(row[2]),
        provider_id=row[3],
        auth_kind=row[4],
        scope=Scope(row[5], row[6]),
        redirect_uri=row[7],
        requested=tuple(read_json(row[8])),
        connection_id=row[9],
        return_to=row[10],
        sealed=Sealed(bytes(row[11]), KeyRef(row[12], row[13], row[14])),
        created_at=read_time(row[15]),
        expires_at=read_time(row[16]),
    )


INSERT_ATTEMPT: Statement[Row] = Statement(insert(AttemptRow))
PRUNE: Statement[Row] = Statement(
    {
        "sqlite": "DELETE FROM service_oauth_attempts WHERE expires_at < :before",
        "postgres": """DELETE FROM service_oauth_attempts WHERE id IN (
          SELECT id FROM service_oauth_attempts WHERE expires_at < :before LIMIT 1000 FOR UPDATE SKIP LOCKED)""",
    }
)
CONSUME: Statement[Attempt] = Statement(
    """UPDATE service_oauth_attempts SET consumed_at = :now
    WHERE state_hash = :state AND binding_hash = :binding AND consumed_at IS NULL AND mismatches < :limit
      AND expires_at > :now
    RETURNING id, state_hash, binding_hash, provider_id, auth_kind, scope_type, scope_id, redirect_uri, requested,
      connection_id, return_to, payload, encryption_backend, encryption_key_id, encryption_version, created_at,
      expires_at""",
    _attempt_of,
)
# It gives plain columns: in SQLite 3.40 `RETURNING consumed_at IS NOT NULL` is true for NULL.
EXPLAIN_MISS: Statement[Row] = Statement(
    """UPDATE service_oauth_attempts SET mismatches = mismatches +
      CASE WHEN consumed_at IS NULL AND expires_at > :now AND binding_hash <> :binding THEN 1 ELSE 0 END
    WHERE state_hash = :state
    RETURNING consumed_at, expires_at, binding_hash, mismatches"""
)


def begin(attempt: Attempt) -> Steps[None]:
    """Keep an open consent, and drop those that are long over."""
    yield from PRUNE(before=attempt.created_at - KEPT)
    yield from INSERT_ATTEMPT(
        id=attempt.id,
        state_hash=attempt.state_hash,
        binding_hash=attempt.binding_hash,
        provider_id=attempt.provider_id,
        auth_kind=attempt.auth_kind,
        scope_type=attempt.scope.type,
        scope_id=attempt.scope.id,
        redirect_uri=attempt.redirect_uri,
        requested=Json(attempt.requested),
        connection_id=attempt.connection_id,
        return_to=attempt.return_to,
        payload=attempt.sealed.ciphertext,
        encryption_backend=attempt.sealed.key.backend,
        encryption_key_id=attempt.sealed.key.key_id,
        encryption_version=attempt.sealed.key.key_version,
        mismatches=0,
        consumed_at=None,
        created_at=attempt.created_at,
        expires_at=attempt.expires_at,
    )


def consume(state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Steps[Attempt | StateInvalid]:
    """Take the attempt: one statement, a second one to explain a miss.

    The reason of a miss is returned, not raised: raising would undo the count of wrong browsers.
    """
    taken = yield from CONSUME.first(state=state_hash, binding=binding_hash, now=now, limit=LIMIT)
    if taken is not None:
        return taken
    miss = yield from EXPLAIN_MISS.first(state=state_hash, binding=binding_hash, now=now)
    if miss is None:
        return StateUnknown()
    consumed_at, expires_at, bound, mismatches = miss
    if consumed_at is not None:
        return StateUsed()
    if read_time(expires_at) <= now:
        return StateExpired()
    if bytes(bound) == binding_hash or mismatches > LIMIT:
        return StateUsed("The OAuth attempt was ended after callbacks from other browsers; start again.")
    return BindingMismatch()
