"""The memory store's rate budgets."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from ..budget_shares import (
    LONGEST_KEPT,
    TOLERANCE,
    check_asks,
    check_take,
    granted,
    kept_for_others,
    reserve_of,
)
from ..errors import BadInput
from ..model import Scope
from ..resources import Budget, BudgetAsk, BudgetBlock, BudgetGrant, BudgetKey, BudgetLease
from .memory_tables import Tables, Waiter, Window


class Budgets:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def take(self, key: BudgetKey, units: float, *, limit: float, window: float) -> BudgetGrant:
        check_take(units, limit=limit, window=window)
        ask = BudgetAsk(key=key, units=units, limit=limit, window=window)
        left = self._left(ask)
        if self._paused_in(key) > 0 or left < units - TOLERANCE:
            return BudgetGrant(granted=False, remaining=left, retry_in=self._refusal(ask).retry_in)
        return BudgetGrant(granted=True, remaining=self._block(ask, held=0.0).remaining)

    async def lease(self, asks: Sequence[BudgetAsk], *, sharer: Scope | None = None) -> BudgetLease:
        check_asks(asks)
        waiting = {ask.key: self._waiting(ask) if sharer is not None else {} for ask in asks}
        for ask in asks:
            held = reserve_of(ask)
            if sharer is not None and waiting[ask.key]:
                held += kept_for_others(waiting[ask.key], ask, sharer)
            if self._paused_in(ask.key) > 0 or self._left(ask) - held < ask.units - TOLERANCE:
                refusal = self._refusal(ask)
                if sharer is not None:
                    self._wait(ask, sharer, refusal.retry_in)
                return refusal
        blocks = []
        for ask in asks:
            if sharer is None or not waiting[ask.key]:
                blocks.append(self._block(ask, held=reserve_of(ask)))
            else:
                blocks.append(self._block(evolve(ask, block=0.0), held=0.0))
                self._got(blocks[-1], sharer)
        return BudgetLease(blocks=tuple(blocks))

    async def give_back(self, blocks: Sequence[BudgetBlock]) -> None:
        for block in blocks:
            held = self._running(block.key)
            if held is not None and held.period == block.period:
                held.remaining = min(held.limit, held.remaining + block.units)

    async def pause(self, keys: Sequence[BudgetKey], *, seconds: float) -> None:
        if not seconds > 0:
            raise BadInput("A pause lasts more than 0 seconds.", field="seconds")
        until = self._tables.later(seconds)
        for key in keys:
            held = self._tables.budgets.setdefault(key, Window(0.0, 0.0, 0.0, until))
            held.paused_until = until if held.paused_until is None else max(until, held.paused_until)

    async def correct(self, key: BudgetKey, *, remaining: float, limit: float, reset_in: float) -> None:
        if not (reset_in > 0 and remaining >= 0 and limit >= 0):
            raise BadInput("A window ends in more than 0 seconds, and its amounts are not below 0.", field="reset_in")
        held, known, reset_at = self._running(key), self._tables.budgets.get(key), self._tables.later(reset_in)
        if held is not None and (reset_at - held.reset_at).total_seconds() <= held.seconds / 2:
            held.limit, held.remaining, held.reset_at = limit, min(held.remaining, remaining), reset_at
        elif known is not None:
            known.limit, known.remaining, known.reset_at = limit, remaining, reset_at
            known.period += 1
        else:
            self._tables.budgets[key] = Window(limit, remaining, reset_in, reset_at)

    async def peek(self, key: BudgetKey) -> Budget | None:
        known, held = self._tables.budgets.get(key), self._running(key)
        if known is None:
            return None
        if held is None:
            return Budget(limit=known.limit, remaining=known.limit, reset_in=0.0, paused_in=self._paused_in(key))
        return Budget(
            limit=held.limit,
            remaining=max(0.0, held.remaining),
            reset_in=self._seconds_left(held),
            paused_in=self._paused_in(key),
        )

    def _running(self, key: BudgetKey) -> Window | None:
        held = self._tables.budgets.get(key)
        return held if held is not None and held.reset_at > self._tables.clock.now() else None

    def _seconds_left(self, window: Window) -> float:
        return (window.reset_at - self._tables.clock.now()).total_seconds()

    def _paused_in(self, key: BudgetKey) -> float:
        held = self._tables.budgets.get(key)
        if held is None or held.paused_until is None:
            return 0.0
        return max(0.0, (held.paused_until - self._tables.clock.now()).total_seconds())

    def _left(self, ask: BudgetAsk) -> float:
        held = self._running(ask.key)
        return ask.limit if held is None else held.remaining

    def _block(self, ask: BudgetAsk, *, held: float) -> BudgetBlock:
        window = self._running(ask.key)
        if window is None:
            known = self._tables.budgets.get(ask.key)
            window = Window(ask.limit, ask.limit, ask.window, self._tables.later(ask.window))
            window.period = known.period + 1 if known is not None else 1
            self._tables.budgets[ask.key] = window
        units = granted(ask, window.remaining, limit=window.limit, held=held)
        window.remaining, window.seconds = window.remaining - units, ask.window
        return BudgetBlock(
            key=ask.key,
            units=units,
            period=window.period,
            remaining=max(0.0, window.remaining),
            ends_in=self._seconds_left(window),
        )

    def _refusal(self, ask: BudgetAsk) -> BudgetLease:
        window, paused_in = self._running(ask.key), self._paused_in(ask.key)
        left = self._seconds_left(window) if window is not None else 0.0
        kept = self._left(ask) >= ask.units - TOLERANCE
        if kept and paused_in > 0:
            return BudgetLease(retry_in=paused_in)
        # A whole window that is another's turn to begin has no end yet.
        return BudgetLease(retry_in=max(left, paused_in) or ask.window, kept=kept)

    # --- scopes that wait ------------------------------------------------------------------------------------------

    def _waiting(self, ask: BudgetAsk) -> dict[Scope, float]:
        """The scopes that wait, the longest first, and what each got of the running window."""
        now, window = self._tables.clock.now(), self._running(ask.key)
        period = window.period if window is not None else 0
        scopes = self._tables.waiters.setdefault(ask.key, {})
        for scope, one in list(scopes.items()):
            if one.until <= now and one.period != period:
                del scopes[scope]
        return {scope: one.got if one.period == period else 0.0 for scope, one in scopes.items() if one.until > now}

    def _wait(self, ask: BudgetAsk, sharer: Scope, retry_in: float) -> None:
        scopes, until = self._tables.waiters[ask.key], self._tables.later(retry_in + min(ask.window, LONGEST_KEPT))
        one = scopes.get(sharer) or Waiter(until)
        if one.until <= self._tables.clock.now():  # it has not waited lately: to the end of the line
            del scopes[sharer]
        one.until = until
        scopes[sharer] = one

    def _got(self, block: BudgetBlock, sharer: Scope) -> None:
        now, scopes = self._tables.clock.now(), self._tables.waiters[block.key]
        one = scopes.pop(sharer, None) or Waiter(now)
        one.got = block.units + (one.got if one.period == block.period else 0.0)
        one.period = block.period
        scopes[sharer] = one
