"""Rate budgets: what is left of a window is taken by one statement, so that no two takers get the same unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import evolve

from go_services_core.budget_shares import (
    LONGEST_KEPT,
    TOLERANCE,
    check_asks,
    check_take,
    granted,
    kept_for_others,
    reserve_of,
)
from go_services_core.errors import BadInput
from go_services_core.model import Scope
from go_services_core.resources import Budget, BudgetAsk, BudgetBlock, BudgetGrant, BudgetKey, BudgetLease

from .statement import Row, Statement, Steps

WAITS: Final = " waits"
"""Follows the name of a budget in those of its waiting scopes."""

_WHICH = "provider_id = :provider_id AND scope_type = :scope_type AND scope_id = :scope_id AND bucket_key = :bucket_key"


def _sql(text: str) -> str:
    """Statements about one budget, with the parts that recur."""
    return text.replace("@which", _WHICH).replace("@key", "(provider_id, scope_type, scope_id, bucket_key)")


_TAKE = """INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      window_seconds, granted, period, reset_at, created_at, updated_at)
    VALUES (:id, :provider_id, :scope_type, :scope_id, :bucket_key, :limit, :left, :window, :first, 1, @later(window),
      @now, @now)
    ON CONFLICT @key DO UPDATE
      SET "limit" = CASE WHEN @running THEN service_rate_limit_state."limit" ELSE excluded."limit" END,
        remaining = CASE WHEN @running THEN service_rate_limit_state.remaining - @grant ELSE excluded.remaining END,
        granted = CASE WHEN @running THEN @grant ELSE excluded.granted END,
        period = service_rate_limit_state.period + CASE WHEN @running THEN 0 ELSE 1 END,
        reset_at = CASE WHEN @running THEN service_rate_limit_state.reset_at ELSE excluded.reset_at END,
        window_seconds = excluded.window_seconds, updated_at = excluded.updated_at
      WHERE (service_rate_limit_state.paused_until IS NULL OR service_rate_limit_state.paused_until <= @now)
        AND CASE WHEN @running THEN service_rate_limit_state.remaining - :held >= :enough
            ELSE excluded."limit" - :held >= :enough END @unless
    RETURNING granted, remaining, period, @remaining(reset_at)""".replace(
    "@grant",
    """CASE WHEN service_rate_limit_state.remaining - :held - :block >= service_rate_limit_state."limit" / 5
          THEN :block ELSE :units END""",
).replace("@running", "(service_rate_limit_state.reset_at IS NOT NULL AND service_rate_limit_state.reset_at > @now)")
_SOMEBODY_WAITS = """EXISTS (SELECT 1 FROM service_rate_limit_state AS waiting
      WHERE waiting.provider_id = :provider_id AND waiting.bucket_key = :waits AND waiting.waiting_until > @now)"""

TAKE: Statement[Row] = Statement(_sql(_TAKE).replace("@unless", ""))
TAKE_UNLESS_OTHERS_WAIT: Statement[Row] = Statement(_sql(_TAKE).replace("@unless", "AND NOT " + _SOMEBODY_WAITS))
CORRECT: Statement[Row] = Statement(
    _sql(
        """INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      window_seconds, period, reset_at, created_at, updated_at)
    VALUES (:id, :provider_id, :scope_type, :scope_id, :bucket_key, :limit, :remaining, :reset_in, 1, @later(reset_in),
      @now, @now)
    ON CONFLICT @key DO UPDATE
      SET "limit" = excluded."limit",
        remaining = CASE WHEN @same AND service_rate_limit_state.remaining < excluded.remaining
          THEN service_rate_limit_state.remaining ELSE excluded.remaining END,
        period = service_rate_limit_state.period + CASE WHEN @same THEN 0 ELSE 1 END,
        reset_at = excluded.reset_at, updated_at = excluded.updated_at""".replace(
            "@same",
            """(service_rate_limit_state.reset_at IS NOT NULL AND service_rate_limit_state.reset_at > @now
            AND @remaining(excluded.reset_at) <= @remaining(service_rate_limit_state.reset_at)
              + service_rate_limit_state.window_seconds / 2)""",
        )
    )
)
GIVE_BACK: Statement[Row] = Statement(
    _sql("""UPDATE service_rate_limit_state
      SET remaining = CASE WHEN remaining + :units > "limit" THEN "limit" ELSE remaining + :units END
    WHERE @which AND period = :period AND reset_at > @now""")
)
PAUSE: Statement[Row] = Statement(
    _sql("""INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      reset_at, paused_until, created_at, updated_at)
    VALUES (:id, :provider_id, :scope_type, :scope_id, :bucket_key, 0, 0, @later(seconds), @later(seconds), @now, @now)
    ON CONFLICT @key DO UPDATE SET updated_at = excluded.updated_at,
      paused_until = CASE WHEN service_rate_limit_state.paused_until > excluded.paused_until
        THEN service_rate_limit_state.paused_until ELSE excluded.paused_until END""")
)
PEEK: Statement[Row] = Statement(
    _sql(
        """SELECT "limit", remaining, @remaining(reset_at), @remaining(paused_until) FROM service_rate_limit_state
        WHERE @which"""
    )
)
LOCK: Statement[Row] = Statement(
    {"sqlite": "", "postgres": _sql("SELECT 1 FROM service_rate_limit_state WHERE @which FOR UPDATE")}
)
WAITING: Statement[Row] = Statement(
    _sql("""SELECT scope_type, scope_id, CASE WHEN waiting_until > @now THEN 1 ELSE 0 END,
      CASE WHEN reset_at = (SELECT main.reset_at FROM service_rate_limit_state AS main
        WHERE @which AND main.reset_at > @now) THEN granted ELSE 0 END
    FROM service_rate_limit_state
    WHERE provider_id = :provider_id AND bucket_key = :waits AND waiting_until IS NOT NULL
      AND (waiting_until > @now OR (scope_type = :sharer_type AND scope_id = :sharer_id))
    ORDER BY created_at, id""")
)
"""Scopes that wait, the longest first, and the asking one; with what each got in the running window."""
WAIT: Statement[Row] = Statement(
    _sql("""INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      reset_at, waiting_until, created_at, updated_at)
    VALUES (:id, :provider_id, :sharer_type, :sharer_id, :waits, 0, 0, @later(seconds), @later(seconds), @now, @now)
    ON CONFLICT @key DO UPDATE SET waiting_until = excluded.waiting_until, updated_at = excluded.updated_at,
      created_at = CASE WHEN service_rate_limit_state.waiting_until > @now THEN service_rate_limit_state.created_at
        ELSE excluded.created_at END""")
)
GOT: Statement[Row] = Statement(
    _sql("""INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining,
      granted, reset_at, waiting_until, created_at, updated_at)
    VALUES (:id, :provider_id, :sharer_type, :sharer_id, :waits, 0, 0, :got,
      (SELECT main.reset_at FROM service_rate_limit_state AS main
        WHERE @which), @now, @now, @now)
    ON CONFLICT @key DO UPDATE SET granted = excluded.granted, reset_at = excluded.reset_at,
      created_at = excluded.created_at, updated_at = excluded.updated_at""")
)
"""Counts what a scope got, which sends it to the end of the line."""


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
    ask = BudgetAsk(key=key, units=units, limit=limit, window=window)
    check_take(units, limit=limit, window=window)
    block = yield from _block(TAKE, id, ask, held=0.0)
    if block is not None:
        return BudgetGrant(granted=True, remaining=block.remaining)
    held, refusal = yield from _refusal(ask)
    return BudgetGrant(granted=False, remaining=held, retry_in=refusal.retry_in)


def lease(ids: Sequence[str], asks: Sequence[BudgetAsk], *, sharer: Scope | None) -> Steps[BudgetLease]:
    """One statement for each window where all grant and nobody waits. Raises BadInput.

    ``ids`` are for rows that are new, one for each window and one for a scope that has to wait.
    """
    check_asks(asks)
    blocks: list[BudgetBlock] = []
    # In one order, so that two units never wait for each other's rows.
    for id, ask in zip(ids, sorted(asks, key=lambda ask: ask.key.bucket), strict=False):
        if sharer is None:
            block = yield from _block(TAKE, id, ask, held=reserve_of(ask))
        else:
            block = yield from _shared(id, ids[-1], ask, sharer)
        if block is None:
            yield from give_back(blocks)
            _, refusal = yield from _refusal(ask)
            if sharer is not None:
                seconds = refusal.retry_in + min(ask.window, LONGEST_KEPT)
                yield from WAIT(**_which(ask.key), **_sharer(ask, sharer), id=ids[-1], seconds=seconds)
            return refusal
        blocks.append(block)
    return BudgetLease(blocks=tuple(blocks))


def _shared(id: str, sharer_id: str, ask: BudgetAsk, sharer: Scope) -> Steps[BudgetBlock | None]:
    names = _sharer(ask, sharer)
    block = yield from _block(TAKE_UNLESS_OTHERS_WAIT, id, ask, held=reserve_of(ask), **names)
    if block is not None:
        return block
    yield from LOCK(**_which(ask.key))
    found = yield from WAITING(**_which(ask.key), **names)
    waiting = {Scope(row[0], row[1]): float(row[3]) for row in found if row[2]}
    if not waiting:
        return None
    got = sum(float(row[3]) for row in found if Scope(row[0], row[1]) == sharer)
    held = reserve_of(ask) + kept_for_others(waiting, ask, sharer)
    # What others wait for is not taken in blocks.
    if held >= ask.limit:
        return None
    block = yield from _block(TAKE, id, evolve(ask, block=0.0), held=held)
    if block is not None:
        yield from GOT(**_which(ask.key), **names, id=sharer_id, got=got + block.units)
    return block


def _sharer(ask: BudgetAsk, sharer: Scope) -> dict[str, str]:
    return {"sharer_type": sharer.type, "sharer_id": sharer.id, "waits": ask.key.bucket + WAITS}


def _block(
    statement: Statement[Row], id: str, ask: BudgetAsk, *, held: float, **more: Any
) -> Steps[BudgetBlock | None]:
    first = granted(ask, ask.limit, limit=ask.limit, held=held)
    taken = yield from statement.first(
        **_which(ask.key),
        id=id,
        limit=float(ask.limit),
        left=float(ask.limit - first),
        first=float(first),
        units=float(ask.units),
        block=float(max(ask.block, ask.units)),
        held=float(held),
        enough=float(ask.units - TOLERANCE),
        window=float(ask.window),
        **more,
    )
    if taken is None:
        return None
    units, remaining, period, ends_in = taken
    return BudgetBlock(
        key=ask.key, units=units, period=period, remaining=max(0.0, float(remaining)), ends_in=float(ends_in)
    )


def _refusal(ask: BudgetAsk) -> Steps[tuple[float, BudgetLease]]:
    """What is left, and when it is worth asking again."""
    held = yield from peek(ask.key)
    if held is None:
        return 0.0, BudgetLease()  # pruned in between
    kept = held.remaining >= ask.units - TOLERANCE
    if kept and held.paused_in > 0:
        return held.remaining, BudgetLease(retry_in=held.paused_in)
    # A whole window that is another's turn to begin has no end yet.
    return held.remaining, BudgetLease(retry_in=max(held.reset_in, held.paused_in) or ask.window, kept=kept)


def give_back(blocks: Sequence[BudgetBlock]) -> Steps[None]:
    """One statement for each block."""
    for block in sorted(blocks, key=lambda block: block.key.bucket):
        yield from GIVE_BACK(**_which(block.key), units=float(block.units), period=block.period)


def pause(ids: Sequence[str], keys: Sequence[BudgetKey], *, seconds: float) -> Steps[None]:
    """One statement for each budget. Raises BadInput."""
    if not seconds > 0:
        raise BadInput("A pause lasts more than 0 seconds.", field="seconds")
    for id, key in zip(ids, sorted(keys, key=lambda key: key.bucket), strict=True):
        yield from PAUSE(**_which(key), id=id, seconds=float(seconds))


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
    limit, remaining, reset_in, paused_in = found
    paused_in = max(0.0, float(paused_in or 0.0))
    if reset_in is None or reset_in <= 0:
        return Budget(limit=limit, remaining=limit, reset_in=0.0, paused_in=paused_in)
    return Budget(limit=limit, remaining=max(0.0, remaining), reset_in=float(reset_in), paused_in=paused_in)
