"""The facets of a SQL store: each method hands one unit of work to the driver."""

from __future__ import annotations

from .connections import SqlConnections
from .endpoints import SqlEndpoints
from .once import SqlLeases, SqlOnce
from .queues import SqlQueues
from .resources import SqlBudgets, SqlLog, SqlResources
from .sealed import SqlSealed
from .workers import SqlWorkers

__all__ = [
    "SqlBudgets",
    "SqlConnections",
    "SqlEndpoints",
    "SqlLeases",
    "SqlLog",
    "SqlOnce",
    "SqlQueues",
    "SqlResources",
    "SqlSealed",
    "SqlWorkers",
]
