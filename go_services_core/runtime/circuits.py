"""The circuit of a request's host: asked before it is sent, told how it ended."""

from __future__ import annotations

from ..call_specs import BreakerPolicy
from ..errors import CircuitOpen
from ..http import HttpRequest
from ..model import Observation
from .breaker import Breaker, Change, origin_of
from .call import Call
from .core import Core


def _policy(call: Call) -> BreakerPolicy | None:
    api = call.loaded.instance.spec.api
    return api.breaker if api is not None else None


def _key(call: Call, url: str) -> tuple[str, str]:
    return call.loaded.instance.id, origin_of(url)


def is_open(core: Core, call: Call, request: HttpRequest) -> bool:
    """Whether the host is left alone by now."""
    breaker = core.breakers.watched.get(_key(call, request.url))
    return breaker is not None and breaker.opened_at is not None


def admitted(core: Core, call: Call, request: HttpRequest) -> tuple[Breaker | None, bool]:
    """The breaker of the request's host, if it failed lately, and whether the request is to find out if it is well.

    Raises:
        CircuitOpen: the host is left alone; nothing was sent.
    """
    key = _key(call, request.url)
    breaker = core.breakers.watched.get(key)
    if breaker is None:
        return None, False
    wait, probe = breaker.admit(core.clock.monotonic())
    if wait is not None:
        raise _open(key, wait)
    return breaker, probe


def require_closed(core: Core, call: Call, request: HttpRequest) -> None:
    """Refuse a request to a host that is left alone, before it waits for anything. It is not the probe yet.

    Raises:
        CircuitOpen: nothing was sent.
    """
    key = _key(call, request.url)
    breaker = core.breakers.watched.get(key)
    wait = breaker.keeps_away(core.clock.monotonic()) if breaker is not None else None
    if wait is not None:
        raise _open(key, wait)


def _open(key: tuple[str, str], wait: float) -> CircuitOpen:
    return CircuitOpen(
        f"{key[1]} failed too often lately; {key[0]} is not asked for {wait:.0f} s.",
        retry_after=wait,
        plugin=key[0],
        hint="Try again later.",
    )


def host_failed(core: Core, call: Call, request: HttpRequest, breaker: Breaker | None, *, probe: bool) -> None:
    """The host gave no answer, or a 5xx that says that it fails. It may be another than that of ``request``, to which
    a redirect led: then that of ``request`` has answered."""
    policy = _policy(call)
    if policy is None:
        return
    now = core.clock.monotonic()
    key = _key(call, call.at)
    elsewhere = key != _key(call, request.url)
    _tell(core, key, core.breakers.watch(key, policy, now).failed(now, probe=probe and not elsewhere))
    if elsewhere and breaker is not None:
        host_answered(core, call, request, breaker, probe=probe)


def host_answered(core: Core, call: Call, request: HttpRequest, breaker: Breaker, *, probe: bool) -> None:
    """A host that failed lately gave an answer."""
    now = core.clock.monotonic()
    key = _key(call, request.url)
    if breaker.is_over(now):
        core.breakers.forget(key)
    else:
        _tell(core, key, breaker.succeeded(now, probe=probe))


def _tell(core: Core, key: tuple[str, str], change: Change | None) -> None:
    if change is not None and core.observers:
        provider_id, origin = key
        core.observe(
            Observation(
                name="breaker",
                at=core.clock.now(),
                ok=change == "closed",
                provider_id=provider_id,
                error_code=CircuitOpen.code if change == "open" else None,
                detail={"origin": origin, "state": change},
            )
        )
