"""Frozen records of how what came in, or must go out, is delivered: when again, how many at once, in which order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

from attrs import field, frozen

from .tuples import as_tuple

STANDARD_DELAYS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds between the attempts of a delivery: ten attempts in a little over three days, the schedule that Standard
Webhooks recommends (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)."""


def _delays(record: object, attribute: Any, value: tuple[float, ...]) -> None:
    if not all(0 <= delay < math.inf for delay in value):
        raise ValueError(f"{attribute.name} must be seconds of 0 or more, not {value!r}")


def _share(record: object, attribute: Any, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} must be between 0 and 1, not {value!r}")


def _seconds(record: object, attribute: Any, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0 seconds, not {value!r}")


def _count(record: object, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value!r}")


@frozen(kw_only=True)
class Schedule:
    """When something that failed is tried again, and when no more."""

    delays: tuple[float, ...] = field(default=STANDARD_DELAYS, converter=as_tuple, validator=_delays)
    """Seconds before the second attempt, before the third, and so on; after the last it is dead."""
    jitter: float = field(default=0.2, validator=_share)
    """Share of a delay that is added at random at most, so that what failed together is not tried again together."""

    @property
    def attempts(self) -> int:
        """How often it is tried at most."""
        return len(self.delays) + 1

    def delay(self, attempt: int, random: Callable[[], float]) -> float | None:
        """Seconds until the attempt after ``attempt``, which counts from 1; None where there is none.

        ``random`` gives numbers of at least 0 and below 1.
        """
        if attempt >= self.attempts:
            return None
        return self.delays[max(attempt, 1) - 1] * (1 + self.jitter * random())


@frozen(kw_only=True)
class Burst:
    """What becomes of deliveries that come in quick succession for the same thing; the newest is always handled.

    ``debounce``: once nothing came for ``window`` seconds, the newest is handled; after ``longest`` seconds in any
    case. ``coalesce``: one is handled at once, and of what comes in the ``window`` after it the newest.
    """

    mode: Literal["debounce", "coalesce"]
    window: float = field(default=2.0, validator=_seconds)
    longest: float = field(default=60.0, validator=_seconds)
    """Seconds that a debounced delivery waits at most, counted from the first one of the burst."""
    key: Literal["channel", "resource", "event"] = "resource"
    """What makes deliveries of one provider and connection the same thing: what the scheme found in them."""


@frozen(kw_only=True)
class InboxPolicy:
    """How the deliveries of a provider are handled."""

    schedule: Schedule = field(factory=Schedule)
    concurrency: int | None = field(default=None, validator=_count)
    """How many handlers of its deliveries one process runs at once; None sets no limit of its own."""
    timeout: float = field(default=30.0, validator=_seconds)
    """Seconds that one handler has for one of its deliveries."""
    order: Literal["none", "channel", "resource"] = "none"
    """Whether deliveries of the same channel or resource are handled one after another."""
    burst: Burst | None = None
