"""The step ``keyed-retry``: the provider creates what it was asked for, and its answer does not come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..call_specs import RetryPolicy

if TYPE_CHECKING:
    from .steps import Stage


async def keyed_retry(stage: Stage, require: Callable[[bool, str], None]) -> str:
    """Create an item whose creation times out, again with the same key, and count the items."""
    sandbox, runtime, connection = stage.sandbox, stage.runtime, stage.connected()
    items, requests = len(sandbox.items), sandbox.requests["items.create"]
    key, params = stage.delivery_id(), {"name": "Lamp"}
    sandbox.faults.set("items.create", "slow", seconds=30)
    hasty = RetryPolicy(attempts=2, attempt_timeout=0.5)
    result = await runtime.execute(connection.id, "items.create", params, idempotency_key=key, retry=hasty)
    require(result.attempts == 2, f"it took {result.attempts} attempts")
    asked, created = sandbox.requests["items.create"] - requests, len(sandbox.items) - items
    require(asked == 2, f"the sandbox was asked {asked} times instead of twice")
    require(created == 1, f"{created} items were created")
    again = await runtime.execute(connection.id, "items.create", params, idempotency_key=key)
    require(again.replayed and again.data == result.data, "the result was not recorded")
    require(sandbox.requests["items.create"] - requests == 2, "the recorded call was made again")
    return "timed out after the item was made; repeated once with the same key: one item, and its result is recorded"
