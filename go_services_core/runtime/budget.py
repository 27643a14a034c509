"""The rate budget of a call: reserved before a request, corrected by its answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..errors import BudgetExhausted
from ..model import Scope
from ..rate_limits import learner
from ..resources import Budget
from .budget_bucket import Bucket, logger
from .load import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..call_specs import RateBudget
    from ..http import HttpRequest, HttpResponse
    from ..rate_limits import RateFact
    from ..specs import Operation
    from .call import Call
    from .core import Core, Loaded

SHARED: Final = Scope("org", "-")
"""Stands in keys of budgets that all scopes of a provider share."""
MANY: Final = 1000
"""Budgets in memory, from which on idle ones are forgotten."""


def is_reserved(call: Call) -> bool:
    """Take the units of ``call``, if the budget is known already and has them in hand; else :func:`reserve` does."""
    bucket = call.loaded.buckets.get(call.operation.id)
    return bucket is not None and bucket.policy is None and bucket.take(call.operation.cost)


async def reserve(core: Core, call: Call, request: HttpRequest) -> bool:
    """Wait until the budget has the units of ``call``, for as long as its deadline allows. True where it had to wait.

    Raises:
        BudgetExhausted: there will be none in time; ``retry_after`` has the seconds to wait. Nothing was sent.
        FacetMissing: the provider's record has windows, and the store no budgets.
        StoreError: the store cannot tell what is left.
    """
    loaded, operation = call.loaded, call.operation
    bucket = loaded.buckets.get(operation.id) or _find(core, loaded, operation)
    waited = bucket.policy is not None and await _ask(core, call, bucket)
    if not bucket.take(operation.cost):
        waited = True
        now = core.clock.monotonic()
        latest = now + core.settings.call_deadline if math.isinf(call.until) else call.until
        scope = loaded.connection.scope
        await bucket.wait(operation.cost, scope=scope, background=call.background, latest=latest)
    return waited


def put_back(call: Call) -> None:
    """Give the units back of a request that was reserved for and not made."""
    bucket = call.loaded.buckets.get(call.operation.id)
    if bucket is not None:
        bucket.put_back(call.operation.cost)


def is_news(call: Call, response: HttpResponse) -> bool:
    """Whether :func:`settle` has something to do with an answer; to be asked once of each."""
    bucket = call.loaded.buckets.get(call.operation.id)
    return bucket is not None and (bucket.policy is not None or _tells(bucket, response))


async def settle(core: Core, call: Call, response: HttpResponse) -> None:
    """Learn from the answer to a request that was reserved for, which is news. It never raises."""
    bucket = call.loaded.buckets[call.operation.id]
    try:
        if bucket.policy is not None:
            bucket.policy.after(_label(call), response)
            if not _tells(bucket, response):
                return
        await _learn(core, call, bucket, response)
    except Exception:
        logger.warning("what %s says of its rate limit is lost", bucket.provider_id, exc_info=True)


async def look(core: Core, connection_id: str, operation_id: str) -> Mapping[str, Budget]:
    """What is left; see ``Runtime.budget``."""
    loaded = await load(core, connection_id)
    bucket = _find(core, loaded, loaded.instance.operation(operation_id))
    found = {}
    for held in bucket.windows:
        stored = await bucket.facet.peek(held.key) if bucket.facet is not None else None
        name = held.key.bucket.rpartition("/")[2]
        found[name] = stored or Budget(limit=held.limit, remaining=held.limit, reset_in=0.0)
    return found


async def close(core: Core) -> None:
    """Give back what was not used."""
    buckets = list(core.buckets.values())
    core.buckets.clear()
    for bucket in buckets:
        try:
            await bucket.aclose()
        except Exception:
            logger.warning("units of %s were not given back", bucket.provider_id, exc_info=True)


def _tells(bucket: Bucket, response: HttpResponse) -> bool:
    """Whether something is to be learned from an answer; one of those that need not be looked at counts as seen."""
    if response.status >= 400 or bucket.asks_always:
        return True
    if bucket.skip:
        bucket.skip -= 1
        return False
    return bucket.tells(response)


async def _learn(core: Core, call: Call, bucket: Bucket, response: HttpResponse) -> None:
    now = core.clock.now()
    facts = [fact for one in bucket.learners for fact in one.read(response, now)]
    own = getattr(bucket.policy, "learn", None)
    if own is not None:
        facts += own(response, now)
    for fact in facts:
        if fact.bucket is not None and _is_elsewhere(fact, bucket.budget):
            core.renamed[bucket.provider_id, call.operation.id] = fact.bucket
            bucket = _find(core, call.loaded, call.operation)
            break
    if bucket.learn(facts, cost=call.operation.cost, status=response.status):
        if response.status < 400:
            bucket.share_pause_soon()  # a call that succeeded waits for no bookkeeping
        else:
            await bucket.share_pause()
    bucket.flush_soon()


def _is_elsewhere(fact: RateFact, budget: RateBudget) -> bool:
    """Whether the provider counts a call in another budget than its record says."""
    is_declared = any(window.units == fact.limit for window in budget.windows)
    return fact.bucket != budget.bucket and not is_declared


def _find(core: Core, loaded: Loaded, operation: Operation) -> Bucket:
    """The budget that counts calls of ``operation``; it is in the connection's ``buckets`` from then on."""
    instance, connection = loaded.instance, loaded.connection
    policy = core.ownership[instance.id].rate_limit_policy
    own = getattr(policy, "budget", None)
    budget = (own(operation) if own is not None else None) or _declared(loaded, operation)
    name = core.renamed.get((instance.id, operation.id), budget.bucket)
    if budget.per == "connection":
        scope, full_name = connection.scope, f"{name}:{connection.id}"
    else:
        scope, full_name = (SHARED if budget.per == "provider" else connection.scope), name
    key = (instance.id, scope, full_name)
    found = core.buckets.get(key)
    if found is None:
        if len(core.buckets) >= MANY:
            for old in [old for old, one in core.buckets.items() if one.is_idle]:
                del core.buckets[old]
        found = core.buckets[key] = Bucket(
            provider_id=instance.id,
            name=full_name,
            scope=scope,
            is_shared=budget.per == "provider",
            budget=budget if name == budget.bucket else _without_windows(budget, name),
            clock=core.clock,
            facet=getattr(core.store, "budgets", None),
            learners=tuple(learner(one) for one in budget.learn),
            policy=policy,
        )
    loaded.buckets[operation.id] = found
    return found


def _declared(loaded: Loaded, operation: Operation) -> RateBudget:
    from ..call_specs import RateBudget

    api = loaded.instance.spec.api
    return operation.budget or (api.budget if api is not None else RateBudget())


def _without_windows(budget: RateBudget, name: str) -> RateBudget:
    from attrs import evolve

    return evolve(budget, bucket=name, windows=())


async def _ask(core: Core, call: Call, bucket: Bucket) -> bool:
    """Wait for as long as the plugin's policy says; False where that is not at all."""
    assert bucket.policy is not None
    wait = bucket.policy.before(_label(call))
    if wait <= 0:
        return False
    if core.clock.monotonic() + wait > call.until:
        raise BudgetExhausted(
            f"The rate limit policy of {bucket.provider_id} asks to wait {wait:.1f} s, which this call does not have.",
            hint="Wait that long, or give the call a longer deadline.",
            retry_after=wait,
            plugin=bucket.provider_id,
        )
    await core.clock.sleep(wait)
    return True


def _label(call: Call) -> str:
    return f"{call.loaded.connection.id}:{call.operation.id}"
