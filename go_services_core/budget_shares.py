"""The rules by which a window's units are shared, without I/O: every store follows these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import BadInput
from .model import Scope
from .resources import BudgetAsk

TOLERANCE: Final = 1e-9
"""Ten times a tenth is not quite one."""
LONGEST_KEPT: Final = 60.0
"""Seconds into the next window for which the share of a scope that waits is kept."""


def check_take(units: float, *, limit: float, window: float) -> None:
    """Refuse what can never be granted.

    Raises:
        BadInput: units or window are not above 0, or ``units`` is above ``limit``.
    """
    if not (units > 0 and window > 0):
        raise BadInput("A budget is taken in units above 0, of a window above 0 seconds.", field="units")
    if not units <= limit:
        raise BadInput(f"{units:g} units are never granted where {limit:g} is the limit.", field="units")


def check_asks(asks: Sequence[BudgetAsk]) -> None:
    """As :func:`check_take`, for every window.

    Raises:
        BadInput: also where no window is asked of, or one twice, or a reserve is below 0.
    """
    if not asks or len({ask.key for ask in asks}) < len(asks):
        raise BadInput("A lease is of one window or more, each of which is named once.", field="asks")
    for ask in asks:
        check_take(ask.units, limit=ask.limit, window=ask.window)
        if not (ask.reserve >= 0 and ask.block >= 0):
            raise BadInput("A reserve and a block are not below 0.", field="asks")


def reserve_of(ask: BudgetAsk) -> float:
    """What is left to others: never so much that a whole window would not do."""
    return max(0.0, min(ask.reserve, ask.limit - ask.units))


def granted(ask: BudgetAsk, remaining: float, *, limit: float, held: float) -> float:
    """What is granted of ``remaining`` units, of which ``held`` are for others: a block where that is ample."""
    block = max(ask.block, ask.units)
    return block if remaining - held - block >= limit / 5 else ask.units


def kept_for_others(waiting: Mapping[Scope, float], ask: BudgetAsk, sharer: Scope) -> float:
    """Units of a window that are not ``sharer``'s; infinity where it is another's turn.

    ``waiting``: the scopes that wait, the longest first, and what each got of the window.
    """
    others = len(waiting) - (sharer in waiting)
    share = ask.limit / (others + 1)
    if share < ask.units - TOLERANCE:
        return 0.0 if next(iter(waiting)) == sharer else math.inf
    return sum(max(0.0, share - got) for scope, got in waiting.items() if scope != sharer)
