"""The rate budget of a call: reserved before a request, corrected by its answer."""

from __future__ import annotations

from ..http import HttpRequest, HttpResponse
from .call import Call
from .core import Core


async def reserve(core: Core, call: Call, request: HttpRequest) -> None:
    """Wait until the budget has the units of ``call``, for as long as its deadline allows.

    Raises:
        BudgetExhausted: there will be none in time; ``retry_after`` has the seconds to wait. Nothing was sent.
    """
    policy = core.ownership[call.loaded.instance.id].rate_limit_policy
    if policy is not None:
        wait = policy.before(_bucket(call))
        if wait > 0:
            await core.clock.sleep(wait)


async def settle(core: Core, call: Call, response: HttpResponse | None) -> None:
    """Learn from the answer to a request that was reserved for; None when there was no answer. It never raises."""
    policy = core.ownership[call.loaded.instance.id].rate_limit_policy
    if policy is not None and response is not None:
        policy.after(_bucket(call), response)


def _bucket(call: Call) -> str:
    return f"{call.loaded.connection.id}:{call.operation.id}"
