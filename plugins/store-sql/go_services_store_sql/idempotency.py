"""The ledger of inbound commands and outgoing operations: begun once, ended with a result that is kept."""

from __future__ import annotations

from go_services_core.errors import IdempotencyMismatch, LeaseLost
from go_services_core.model import Sealed
from go_services_core.resources import Begun

from .sealed import sealed_of
from .statement import Row, Statement, Steps

BEGIN: Statement[Row] = Statement(
    """INSERT INTO service_idempotency (key, kind, digest, status, owner, fence, expires_at, created_at, updated_at)
    VALUES (:key, :kind, :digest, 'running', :owner, 1, @later(seconds), @now, @now)
    ON CONFLICT (key) DO UPDATE
      SET status = CASE service_idempotency.status WHEN 'failed' THEN 'running' ELSE 'resumed' END,
        created_at = CASE service_idempotency.status
          WHEN 'failed' THEN excluded.created_at ELSE service_idempotency.created_at END,
        owner = excluded.owner, fence = service_idempotency.fence + 1,
        expires_at = excluded.expires_at, updated_at = excluded.updated_at
      WHERE service_idempotency.digest = excluded.digest
        AND (service_idempotency.status = 'failed'
             OR (service_idempotency.status IN ('running', 'resumed') AND service_idempotency.expires_at <= @now))
    RETURNING fence, status, @remaining(created_at)"""
)
STATE: Statement[Row] = Statement(
    """SELECT digest, status, fence, @remaining(expires_at), result, encryption_backend, encryption_key_id,
      encryption_version
    FROM service_idempotency WHERE key = :key"""
)
FINISH: Statement[Row] = Statement(
    """UPDATE service_idempotency SET status = :status, owner = NULL, expires_at = NULL, result = :result,
      encryption_backend = :backend, encryption_key_id = :key_id, encryption_version = :key_version, updated_at = @now
    WHERE key = :key AND owner = :owner AND fence = :fence AND status IN ('running', 'resumed') RETURNING key"""
)
EXTEND: Statement[Row] = Statement(
    """UPDATE service_idempotency SET expires_at = @later(seconds), updated_at = @now
    WHERE key = :key AND owner = :owner AND fence = :fence AND status IN ('running', 'resumed') RETURNING key"""
)


def begin(kind: str, key: str, *, digest: bytes, owner: str, seconds: float) -> Steps[Begun]:
    """One statement where it is new, two where it is not. Raises IdempotencyMismatch."""
    name = f"{kind}:{key}"
    begun = yield from BEGIN.first(key=name, kind=kind, digest=digest, owner=owner, seconds=seconds)
    if begun is not None:
        fence, status, left = begun
        return Begun(state="new", fence=fence, unsettled=max(0.0, -float(left)) if status == "resumed" else None)
    found = yield from STATE.first(key=name)
    if found is None:
        return Begun(state="running", fence=0)  # pruned in between: ask again
    known, status, fence, left, *result = found
    if bytes(known) != digest:
        raise IdempotencyMismatch(metadata={"kind": kind, "key": key})
    if status == "done":
        return Begun(state="done", fence=fence, result=sealed_of(*result))
    return Begun(state="running", fence=fence, retry_in=max(0.0, float(left or 0)))


def finish(kind: str, key: str, *, owner: str, fence: int, ok: bool, result: Sealed | None) -> Steps[None]:
    """One statement. Raises LeaseLost."""
    kept = result if ok else None
    finished = yield from FINISH.first(
        key=f"{kind}:{key}",
        owner=owner,
        fence=fence,
        status="done" if ok else "failed",
        result=None if kept is None else kept.ciphertext,
        backend="" if kept is None else kept.key.backend,
        key_id="" if kept is None else kept.key.key_id,
        key_version=1 if kept is None else kept.key.key_version,
    )
    if finished is None:
        raise LeaseLost(metadata={"kind": kind, "key": key})


def extend(kind: str, key: str, *, owner: str, fence: int, seconds: float) -> Steps[None]:
    """One statement. Raises LeaseLost."""
    if (yield from EXTEND.first(key=f"{kind}:{key}", owner=owner, fence=fence, seconds=seconds)) is None:
        raise LeaseLost(metadata={"kind": kind, "key": key})
