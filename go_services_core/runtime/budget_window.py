"""What this process knows of one window of a budget, and has of it in hand. No I/O."""

from __future__ import annotations

import math
from typing import Final

from attrs import define

from ..budget_shares import TOLERANCE
from ..resources import BudgetAsk, BudgetBlock, BudgetKey

FIRST_BLOCK: Final = 0.01
"""Part of a window that is leased at first; then twice as much whenever it was used up quickly, and half if slowly."""
LARGEST_BLOCK: Final = 0.05
QUICKLY: Final = 10.0
SLOWLY: Final = 60.0
"""Seconds."""
RESERVE: Final = 0.2
"""Part of a window that background calls leave to others."""
AMPLE: Final = 100.0
"""Units, and more than a fifth of the window: while the provider says so much is left, nobody needs to share."""


@define(eq=False)
class Held:
    """A window, with the units of the leased block that are left."""

    key: BudgetKey
    limit: float
    seconds: float
    until: float = math.inf
    """Of a window that the provider told of: when it is over, by the monotonic clock."""
    units: float = 0.0
    ends: float = -math.inf
    """When the units are worth nothing, by the monotonic clock."""
    period: int = 0
    left: float = math.inf
    """What the store had left when it was last heard of."""
    _block: float = 0.0
    _leased_at: float = -math.inf

    def has(self, units: float, now: float) -> bool:
        """Whether the block in hand is enough."""
        return now < self.ends and self.units >= self.price(units) - TOLERANCE

    def price(self, units: float) -> float:
        """A call that costs more than a whole window takes all of it."""
        return units if units < self.limit else self.limit  # noqa: FURB136  a call of min() costs more than that

    def ask(self, units: float, *, background: bool, now: float) -> BudgetAsk:
        """What to lease next."""
        largest = self.limit * LARGEST_BLOCK
        if self._block == 0.0:
            self._block = self.limit * FIRST_BLOCK
        elif now - self._leased_at < QUICKLY:
            self._block = min(2 * self._block, largest)
        elif now - self._leased_at > SLOWLY:
            self._block = max(self._block / 2, self.limit * FIRST_BLOCK)
        return BudgetAsk(
            key=self.key,
            units=self.price(units),
            limit=self.limit,
            window=self.seconds,
            block=self._block,
            reserve=self.limit * RESERVE if background else 0.0,
        )

    def take_in(self, block: BudgetBlock, now: float) -> None:
        """Add a block. ``now`` is from before it was asked for: it never ends later here than in the store."""
        if block.period != self.period or now >= self.ends:
            self.units = 0.0
        self.units += block.units
        self.period, self.ends, self.left, self._leased_at = block.period, now + block.ends_in, block.remaining, now

    def unused(self, now: float) -> BudgetBlock | None:
        """What may be given back."""
        if self.units <= TOLERANCE or now >= self.ends:
            return None
        return BudgetBlock(
            key=self.key, units=self.units, period=self.period, remaining=self.left, ends_in=self.ends - now
        )

    def learn(self, remaining: float) -> bool:
        """Take note of what the provider has left; True where the store should know.

        Others' units count in ``remaining`` until they are used, so that a little less than was expected is no news.
        """
        news = max(self._block, self.limit * LARGEST_BLOCK, 1.0)
        if remaining > 0 and remaining - self.units >= self.left - news:
            return False
        if self.left <= 0 and self.units <= 0:
            return False
        self.units = min(self.units, remaining)
        self.left = max(0.0, remaining - self.units)
        return True


def is_ample(remaining: float, limit: float) -> bool:
    """Whether so much is left that it need not be shared."""
    return remaining > AMPLE and remaining > limit * RESERVE
