"""``[retention]``: how long history is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from ..resources import HISTORY, KEPT_AT_LEAST
from .schema import setting, settings

DAY: Final = 86_400.0
_PREFIX: Final = "service_"


def _seconds(record: object, attribute: Any, value: float) -> None:
    least = KEPT_AT_LEAST.get(_PREFIX + attribute.name, 0.0)
    if value != 0 and not max(least, 1.0) <= value < math.inf:
        raise ValueError(
            f"{attribute.name} must be at least {max(least, 1.0):g} seconds, or 0 to keep it, not {value:g}"
        )


def _above_zero(record: object, attribute: Any, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0, not {value:g}")


def _kept(default: float, what: str) -> Any:
    return setting(default=default, help=f"Seconds that {what} are kept; 0 keeps them", validator=_seconds)


@settings
class RetentionRoot:
    """``[retention]``; each table with history has the setting of its name without ``service_``."""

    every: float = setting(
        default=3600.0, help="Seconds between two runs, of all processes together", validator=_above_zero
    )
    batch: int = setting(default=500, help="Rows that are gone through in one commit", validator=_above_zero)
    webhook_deliveries: float = _kept(30 * DAY, "deliveries that were processed or quarantined")
    lifecycle_outbox: float = _kept(30 * DAY, "events that every handler has")
    event_positions: float = _kept(0.0, "positions that handlers reached")
    sync_jobs: float = _kept(30 * DAY, "jobs that succeeded")
    oauth_attempts: float = _kept(DAY, "consents whose time is over")
    refresh_intents: float = _kept(30 * DAY, "refreshes that ended")
    replay_ledger: float = _kept(DAY, "keys whose time is over")
    idempotency: float = _kept(30 * DAY, "commands and operations that ended")
    notification_dispatches: float = _kept(90 * DAY, "notifications that were sent or failed")
    activity_entries: float = _kept(90 * DAY, "entries of the activity log")
    grant_events: float = _kept(0.0, "earlier changes of a connection's grants")
    grant_snapshots: float = _kept(0.0, "earlier states of a connection's grants")
    credentials: float = _kept(30 * DAY, "ciphertexts of credentials that are not active")
    subscriptions: float = _kept(90 * DAY, "cancelled subscriptions that were replaced or made anew")
    installations: float = _kept(0.0, "installations that were uninstalled")
    rate_limit_state: float = _kept(DAY, "budgets whose window is over")

    def policy(self) -> Mapping[str, float]:
        """For ``Store.prune``: the tables whose history ends, and the seconds that it is kept."""
        kept = {table: getattr(self, table.removeprefix(_PREFIX)) for table in HISTORY}
        return {table: seconds for table, seconds in kept.items() if seconds}
