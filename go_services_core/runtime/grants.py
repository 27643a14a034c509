"""Whether a connection may use a capability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..model import Decision
from ..specs import Capability


def with_implied(granted: Iterable[str], implies: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The grants and every narrower one that they include."""
    held: set[str] = set()
    waiting = list(granted)
    while waiting:
        grant = waiting.pop()
        if grant not in held:
            held.add(grant)
            waiting.extend(implies.get(grant, ()))
    return held


def decide(capability: Capability, granted: tuple[str, ...] | None, implies: Mapping[str, tuple[str, ...]]) -> Decision:
    """Compare what a capability takes with what was granted.

    ``granted=None`` means that the provider does not tell grants: then the provider's own answer to the call decides.
    A missing required grant blocks, whatever ``denied`` says; a missing optional one is told only where ``denied`` is
    ``degrade``.
    """
    if granted is None:
        return Decision(
            allowed=True, capability=capability.name, mode="full", reason="the provider does not tell grants"
        )
    held = with_implied(granted, implies)
    missing = tuple(sorted(set(capability.grants) - held))
    if missing:
        return Decision(
            allowed=False,
            capability=capability.name,
            mode="blocked",
            missing=missing,
            reason=f"the connection was not granted {', '.join(missing)}",
        )
    lacking = tuple(sorted(set(capability.optional) - held)) if capability.denied == "degrade" else ()
    if lacking:
        return Decision(
            allowed=True,
            capability=capability.name,
            mode="degraded",
            missing=lacking,
            reason=f"works without {', '.join(lacking)}, but less well",
        )
    return Decision(allowed=True, capability=capability.name, mode="full")
