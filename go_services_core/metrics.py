"""From observations to metrics: names and tags that are few, whatever is called for whomever.

Bridges to metric systems give each :class:`Update` to their library. Ids of connections, scopes, requests and traces
are in log records and spans, never in a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from attrs import frozen

from .model import Observation

NAMES: Final[Mapping[str, str]] = {
    "operation": "provider_operation",
    "complete": "complete_callback",
    "disconnect": "revoke",
}
"""Observations that have another name in metrics and in the ``event_type`` of log records: that of the Go system."""
TAGS: Final = ("operation", "status", "provider_id", "error_code", "error_category")
"""What every metric is told apart by; a tag that does not apply is empty."""
AD_HOC: Final = "(ad hoc)"
"""Stands in tags for calls of an endpoint that the provider's record does not have."""


BACKLOG: Final = "worker.backlog"
"""The observation of what waits in a queue; its numbers are gauges."""
GAUGES: Final = ("due", "lag", "dead")


@frozen
class Update:
    """One change of one metric."""

    name: str
    """Such as ``services.provider_operation.total``."""
    kind: Literal["counter", "histogram", "gauge"]
    value: float
    """To add to the counter, to put into the histogram, or what the gauge shows from now on."""
    tags: Mapping[str, str]
    """A value for each of ``TAGS``."""


def event_type(name: str) -> str:
    """What metrics and log records call the observation of that name."""
    return NAMES.get(name, name)


def updates(observation: Observation) -> tuple[Update, ...]:
    """What ``observation`` changes in metrics.

    Work that ended counts in ``services.<event type>.total`` and ``services.<event type>.duration_ms``, what only
    happened in the first, another attempt in ``services.<event type>.retries``. Attempts by themselves and beginnings
    change nothing. What waits in a queue sets ``services.worker.backlog.due``, ``.lag`` in seconds and ``.dead``.
    """
    if observation.phase == "start" or observation.name == "attempt":
        return ()
    base = f"services.{event_type(observation.name)}"
    tags = _tags(observation)
    if observation.name == BACKLOG:
        return tuple(Update(f"{base}.{name}", "gauge", float(observation.detail[name]), tags) for name in GAUGES)
    if observation.phase == "retry":
        return (Update(f"{base}.retries", "counter", 1, tags),)
    total = Update(f"{base}.total", "counter", 1, tags)
    if observation.duration_ms is None:
        return (total,)
    return total, Update(f"{base}.duration_ms", "histogram", observation.duration_ms, tags)


def _tags(observation: Observation) -> Mapping[str, str]:
    return {
        "operation": _operation(observation.name, observation.detail),
        "status": "success" if observation.ok else "failure",
        "provider_id": observation.provider_id or "",
        "error_code": observation.error_code or "",
        "error_category": observation.error_category or "",
    }


def _operation(name: str, detail: Mapping[str, object]) -> str:
    if name == "operation":
        return str(detail.get("operation", "")) if detail.get("declared") else AD_HOC
    if name == BACKLOG:
        return str(detail["queue"])
    if name in ("outbox", "job", "worker.failed", "worker.recovered"):
        return str(detail.get("handler") or detail.get("kind") or "")
    return ""
