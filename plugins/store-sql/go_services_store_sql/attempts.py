"""Open OAuth consents: taken once, by the browser that began them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from go_services_core.errors import BindingMismatch, StateExpired, StateInvalid, StateUnknown, StateUsed
from go_services_core.grants import GrantEvent
from go_services_core.model import Attempt, KeyRef, Scope, Sealed

from . import connections
from .dialect import Json, read_json, read_time
from .grants import record_event
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


_COLUMNS: Final = (
    AttemptRow.id,
    AttemptRow.state_hash,
    AttemptRow.binding_hash,
    AttemptRow.provider_id,
    AttemptRow.auth_kind,
    AttemptRow.scope_type,
    AttemptRow.scope_id,
    AttemptRow.redirect_uri,
    AttemptRow.requested,
    AttemptRow.connection_id,
    AttemptRow.return_to,
    AttemptRow.payload,
    AttemptRow.encryption_backend,
    AttemptRow.encryption_key_id,
    AttemptRow.encryption_version,
    AttemptRow.created_at,
    AttemptRow.expires_at,
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
    RETURNING @columns""",
    _attempt_of,
    columns=_COLUMNS,
)
READ: Statement[Attempt] = Statement(
    """SELECT @columns FROM service_oauth_attempts
    WHERE state_hash = :state AND binding_hash = :binding AND consumed_at IS NULL AND mismatches < :limit
      AND expires_at > :now""",
    _attempt_of,
    columns=_COLUMNS,
)
REVISE: Statement[Row] = Statement(
    """UPDATE service_oauth_attempts SET payload = :payload, encryption_backend = :backend,
      encryption_key_id = :key_id, encryption_version = :key_version
    WHERE id = :id AND payload = :before AND consumed_at IS NULL
    RETURNING id"""
)
# It gives plain columns: in SQLite 3.40 `RETURNING consumed_at IS NOT NULL` is true for NULL.
EXPLAIN_MISS: Statement[Row] = Statement(
    """UPDATE service_oauth_attempts SET mismatches = mismatches +
      CASE WHEN consumed_at IS NULL AND expires_at > :now AND binding_hash <> :binding THEN 1 ELSE 0 END
    WHERE state_hash = :state
    RETURNING consumed_at, expires_at, binding_hash, mismatches"""
)


def begin(attempt: Attempt, *, reconsent: GrantEvent | None = None) -> Steps[None]:
    """Keep an open consent, and drop those that are long over. Raises ConnectionNotFound for a re-consent."""
    if reconsent is not None:
        yield from record_event((yield from connections.get(reconsent.connection_id)), reconsent)
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
    return taken if taken is not None else (yield from _miss(state_hash, binding_hash, now))


def read(state_hash: bytes, binding_hash: bytes, *, now: datetime) -> Steps[Attempt | StateInvalid]:
    """Look at the open attempt; a miss is counted and explained as in ``consume``."""
    found = yield from READ.first(state=state_hash, binding=binding_hash, now=now, limit=LIMIT)
    return found if found is not None else (yield from _miss(state_hash, binding_hash, now))


def revise(attempt: Attempt, sealed: Sealed) -> Steps[bool]:
    """Let an open attempt remember something else, if it still remembers what ``attempt`` does."""
    done = yield from REVISE.first(
        id=attempt.id,
        before=attempt.sealed.ciphertext,
        payload=sealed.ciphertext,
        backend=sealed.key.backend,
        key_id=sealed.key.key_id,
        key_version=sealed.key.key_version,
    )
    return done is not None


def _miss(state_hash: bytes, binding_hash: bytes, now: datetime) -> Steps[StateInvalid]:
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
