"""Rate budgets: what is left of a window is taken by one statement, so that no two takers get the same unit."""

from __future__ import annotations

from typing import Final

from go_services_core.errors import BadInput
from go_services_core.resources import Budget, BudgetGrant, BudgetKey

from .statement import Row, Statement, Steps

TOLERANCE: Final = 1e-9
"""Ten times a tenth is not quite one."""

TAKE: Statement[Row] = Statement(
    """INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      window_seconds, reset_at, created_at, updated_at)
    VALUES (:id, :provider_id, :scope_type, :scope_id, :bucket_key, :limit, :left, :window, @later(window), @now, @now)
    ON CONFLICT (provider_id, scope_type, scope_id, bucket_key) DO UPDATE
      SET "limit" = CASE WHEN service_rate_limit_state.reset_at > @now
                    THEN service_rate_limit_state."limit" ELSE excluded."limit" END,
        remaining = CASE WHEN service_rate_limit_state.reset_at > @now
                    THEN service_rate_limit_state.remaining - :units ELSE excluded.remaining END,
        reset_at = CASE WHEN service_rate_limit_state.reset_at > @now
                   THEN service_rate_limit_state.reset_at ELSE excluded.reset_at END,
        window_seconds = excluded.window_seconds, updated_at = excluded.updated_at
      WHERE service_rate_limit_state.reset_at IS NULL OR service_rate_limit_state.reset_at <= @now
        OR service_rate_limit_state.remaining >= :enough
    RETURNING remaining"""
)
CORRECT: Statement[Row] = Statement(
    """INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      window_seconds, reset_at, created_at, updated_at)
    VALUES (:id, :provider_id, :scope_type, :scope_id, :bucket_key, :limit, :remaining, :reset_in, @later(reset_in),
      @now, @now)
    ON CONFLICT (provider_id, scope_type, scope_id, bucket_key) DO UPDATE
      SET "limit" = excluded."limit",
        remaining = CASE
          WHEN service_rate_limit_state.remaining < excluded.remaining AND service_rate_limit_state.reset_at > @now
            AND @remaining(excluded.reset_at) <= @remaining(service_rate_limit_state.reset_at)
              + service_rate_limit_state.window_seconds / 2
          THEN service_rate_limit_state.remaining ELSE excluded.remaining END,
        reset_at = excluded.reset_at, updated_at = excluded.updated_at"""
)
PEEK: Statement[Row] = Statement(
    """SELECT "limit", remaining, @remaining(reset_at) FROM service_rate_limit_state
    WHERE provider_id = :provider_id AND scope_type = :scope_type AND scope_id = :scope_id
      AND bucket_key = :bucket_key"""
)


def _which(key: BudgetKey) -> dict[str, str]:
    return {
        "provider_id": key.provider_id,
        "scope_type": key.scope.type,
        "scope_id": key.scope.id,
        "bucket_key": key.bucket,
    }


def take(id: str, key: BudgetKey, units: float, *, limit: float, window: float) -> Steps[BudgetGrant]:
    """One statement where the units are granted, two where they are not. Raises BadInput.

    ``id`` is for a row that is new. It is no function of the key: of two callers who both make the row, the second is
    turned aside by the natural key only, not by the primary one, which no ``ON CONFLICT`` names.
    """
    if not (units > 0 and window > 0):
        raise BadInput("A budget is taken in units above 0, of a window above 0 seconds.", field="units")
    if not units <= limit:
        raise BadInput(f"{units:g} units are never granted where {limit:g} is the limit.", field="units")
    taken = yield from TAKE.first(
        **_which(key),
        id=id,
        limit=float(limit),
        left=float(limit - units),
        units=float(units),
        enough=float(units - TOLERANCE),
        window=float(window),
    )
    if taken is not None:
        return BudgetGrant(granted=True, remaining=max(0.0, float(taken[0])))
    held = yield from peek(key)
    if held is None:
        return BudgetGrant(granted=False, remaining=0.0)  # pruned in between
    return BudgetGrant(granted=False, remaining=held.remaining, retry_in=held.reset_in)


def correct(id: str, key: BudgetKey, *, remaining: float, limit: float, reset_in: float) -> Steps[None]:
    """One statement. Raises BadInput."""
    if not (reset_in > 0 and remaining >= 0 and limit >= 0):
        raise BadInput("A window ends in more than 0 seconds, and its amounts are not below 0.", field="reset_in")
    yield from CORRECT(
        **_which(key),
        id=id,
        limit=float(limit),
        remaining=float(remaining),
        reset_in=float(reset_in),
    )


def peek(key: BudgetKey) -> Steps[Budget | None]:
    """What the budget holds."""
    found = yield from PEEK.first(**_which(key))
    if found is None:
        return None
    limit, remaining, reset_in = found
    if reset_in is None or reset_in <= 0:
        return Budget(limit=limit, remaining=limit, reset_in=0.0)
    return Budget(limit=limit, remaining=max(0.0, remaining), reset_in=float(reset_in))
