"""What ``[observers.prometheus]`` may hold."""

from __future__ import annotations

import math
from typing import Any

from go_services_core.config import setting, settings


def _ascending(record: object, attribute: Any, value: tuple[float, ...]) -> None:
    if not value or value[0] <= 0 or list(value) != sorted(set(value)) or not math.isfinite(value[-1]):
        raise ValueError(f"{attribute.name} must be milliseconds above 0 in ascending order, not {list(value)}")


@settings
class PrometheusSettings:
    """Where metrics are registered, and how durations are grouped."""

    registry: str | None = setting(
        default=None,
        help="A CollectorRegistry of the application as module:name; the default registry without it.",
        example="app.metrics:REGISTRY",
    )
    buckets: tuple[float, ...] = setting(
        default=(5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000),
        help="Upper limits of the buckets of durations, in milliseconds.",
        validator=_ascending,
    )
