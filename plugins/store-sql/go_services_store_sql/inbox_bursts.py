"""Deliveries that come in bursts: which of them is handled, and when.

A new one counts as of its burst where the newest of its key still waits. It takes over what that one was given, so that
however many follow each other, the time at which one of them must be handled does not move. Which of those that are due
is the newest, and is handled, is found out by the claim: of two that were accepted at once neither saw the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from go_services_core.delivery_specs import Burst

from .models import InboxRow
from .statement import Row, Statement

STALE: Final = """(item.burst_key IS NOT NULL AND EXISTS (
  SELECT 1 FROM service_webhook_deliveries AS newer
  WHERE newer.provider_id = item.provider_id AND newer.burst_key = item.burst_key AND newer.id > item.id
    AND newer.status <> 'superseded'))"""
"""Whether a newer delivery takes the place of the row ``item``, which is claimed."""

_GIVEN = [name for name in InboxRow._meta.sorted_field_names if name not in ("next_attempt_at", "burst_until")]
_NEWEST = """FROM service_webhook_deliveries
    WHERE provider_id = :provider_id AND burst_key = :burst_key AND status <> 'superseded' ORDER BY id DESC LIMIT 1"""


def _insert(earlier: str, due: str, until: str) -> str:
    return f"""INSERT INTO service_webhook_deliveries ({", ".join(_GIVEN)}, next_attempt_at, burst_until)
    SELECT {", ".join(f":{name}" for name in _GIVEN)}, {due}, {until}
    FROM (SELECT ({earlier}) AS earlier) AS burst WHERE true
    ON CONFLICT DO NOTHING
    RETURNING id, coalesce((SELECT status = 'pending' FROM service_webhook_deliveries AS older
      WHERE older.provider_id = :provider_id AND older.burst_key = :burst_key AND older.id < :id
        AND older.status <> 'superseded' ORDER BY older.id DESC LIMIT 1), false)"""  # noqa: S608


# What the newest one leaves: the end of the burst, if it still waits.
_DEBOUNCE = f"SELECT CASE WHEN status = 'pending' THEN burst_until END {_NEWEST}"
# What the newest one leaves: when it is due, if it still waits, else when its window ends.
_COALESCE = f"SELECT CASE WHEN status = 'pending' THEN next_attempt_at ELSE burst_until END {_NEWEST}"

INSERT: Final[Mapping[str, Statement[Row]]] = {
    "debounce": Statement(
        {
            "sqlite": _insert(
                _DEBOUNCE,
                "min(@later(window), coalesce(earlier, @later(longest)))",
                "coalesce(earlier, @later(longest))",
            ),
            "postgres": _insert(
                _DEBOUNCE,
                "least(@later(window), coalesce(earlier, @later(longest)))",
                "coalesce(earlier, @later(longest))",
            ),
        }
    ),
    "coalesce": Statement(
        {
            "sqlite": _insert(
                _COALESCE,
                "max(coalesce(earlier, @now), @now)",
                """strftime('%Y-%m-%d %H:%M:%f', max(coalesce(earlier, @now), @now),
                  printf('+%.3f seconds', :window)) || '000'""",
            ),
            "postgres": _insert(
                _COALESCE,
                "greatest(coalesce(earlier, @now), @now)",
                "greatest(coalesce(earlier, @now), @now) + make_interval(secs => :window)",
            ),
        }
    ),
}
"""A new delivery of a burst: one statement. It gives the id, and whether an older one of the burst was waiting."""


def timing(burst: Burst) -> Mapping[str, float]:
    """What the statements need to know of the record."""
    return {"window": burst.window, "longest": max(burst.longest, burst.window)}
