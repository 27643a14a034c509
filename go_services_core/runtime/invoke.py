"""Capabilities by scope: which connection serves, whether it may, and the call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from ..call_specs import RetryPolicy
from ..calls import Invocation
from ..errors import BadInput, RequestTimeout
from ..model import Decision, Resolution, Scope
from ..providers import ProviderInstance
from .capabilities import decision
from .core import Core, Loaded
from .load import load
from .operations import execute
from .resolve import resolve, served, unresolved


async def can_invoke(
    core: Core, capability: str, provider_id: str, scope: Scope, *, parents: Iterable[Scope]
) -> Decision:
    """What :func:`invoke` would be permitted; see ``Runtime.can_invoke``."""
    core.instance(provider_id).capability(capability)
    found, loaded = await _serving(core, provider_id, scope, tuple(parents))
    if loaded is None:
        return Decision(allowed=False, capability=capability, mode="blocked", reason=found.reason)
    return evolve(decision(loaded, capability), connection_id=loaded.connection.id)


async def invoke(
    core: Core,
    capability: str,
    provider_id: str,
    scope: Scope,
    *,
    operation: str | None,
    params: Mapping[str, Any] | None,
    parents: Iterable[Scope],
    idempotency_key: str | None,
    deadline: float | None,
    retry: RetryPolicy | None,
    background: bool,
) -> Invocation:
    """Use a capability with the connection that serves the scope; see ``Runtime.invoke``."""
    operation = operation_of(core.instance(provider_id), capability, operation)
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(deadline):
            found, loaded = await _serving(core, provider_id, scope, tuple(parents))
    except TimeoutError:
        raise RequestTimeout(f"{operation} was not done within {deadline:g} s.", sent=False) from None
    if loaded is None:
        raise unresolved(found)
    # A deadline around the call would hide what it left open.
    left = None if deadline is None else deadline - (asyncio.get_running_loop().time() - began)
    result = await execute(
        core,
        loaded.connection.id,
        operation,
        params,
        method=None,
        path=None,
        body=None,
        headers=None,
        idempotency_key=idempotency_key,
        deadline=left,
        retry=retry,
        background=background,
        loaded=loaded,
    )
    made = evolve(decision(loaded, capability), connection_id=loaded.connection.id)
    return Invocation(decision=made, resolution=found, operation=operation, result=result)


def operation_of(instance: ProviderInstance, capability: str, operation: str | None) -> str:
    """The id of the operation that uses the capability: the one that is named, or the only one.

    Raises:
        CapabilityUnsupported, OperationNotFound: the provider has no such capability or operation.
        BadInput: the operation needs another capability, or none is named and there is not exactly one.
    """
    instance.capability(capability)
    having = [one.id for one in instance.spec.operations if one.capability == capability]
    if operation is None:
        if len(having) == 1:
            return having[0]
        raise BadInput(
            f"{len(having) or 'No'} operations of {instance.id} have the capability {capability}.",
            hint=f"Name one of {', '.join(having)}." if having else "Use execute.",
            field="operation",
        )
    instance.operation(operation)
    if operation not in having:
        raise BadInput(
            f"Operation {operation} of {instance.id} is not one of the capability {capability}.",
            hint=f"Its operations: {', '.join(having) or 'none'}.",
            field="operation",
        )
    return operation


async def _serving(
    core: Core, provider_id: str, scope: Scope, parents: tuple[Scope, ...]
) -> tuple[Resolution, Loaded | None]:
    """Which connection serves, ready for use.

    What was found is kept as long as connections are, and until one changes here.
    """
    key = (provider_id, scope, parents)
    now = core.clock.monotonic()
    kept = core.served.get(key)
    if kept is not None and kept[0] > now and kept[1] == core.changes:
        loaded = await load(core, kept[2])
        return served(scope, loaded.connection), loaded
    since = core.changes
    found = await resolve(core, provider_id, scope, parents=parents)
    if found.connection is None:
        return found, None
    loaded = await load(core, found.connection.id)
    core.served.pop(key, None)
    while core.served and next(iter(core.served.values()))[0] <= now:  # in the order of their time
        del core.served[next(iter(core.served))]
    if core.settings.cache_seconds > 0 and core.changes == since:
        core.served[key] = (now + core.settings.cache_seconds, since, loaded.connection.id)
    return found, loaded
