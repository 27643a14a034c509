"""What a connection's grants are enough for, and what is missing of what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..auth_specs import AuthSpec
from ..clock import uuid7
from ..grants import Granted, GrantEvent, GrantReport
from ..lifecycle import event
from ..model import Decision, Event, Scope
from ..specs import Capability, ProviderSpec
from .core import Core

if TYPE_CHECKING:
    from ..providers import ProviderInstance


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


def tells_grants(auth: AuthSpec | None) -> bool:
    """Whether a credential of that record comes with what was granted.

    A record without the field is that of a key or a password: nothing that such a credential came with says what it
    may do, unless the provider's identity endpoint does.
    """
    return bool(getattr(auth, "tells_grants", False))


def decide(
    capability: Capability, granted: Granted, implies: Mapping[str, tuple[str, ...]], *, tells: bool
) -> Decision:
    """Compare what a capability takes with what was granted.

    A missing required grant blocks, whatever ``denied`` says; a missing optional one is told only where ``denied`` is
    ``degrade``. Grants that are not known count as missing where the record ``tells`` them; where it has no way to,
    the provider's own answer to the call decides.
    """
    if granted is None and not tells:
        return Decision(
            allowed=True, capability=capability.name, mode="full", reason="the provider does not tell grants"
        )
    held = with_implied(granted or (), implies)
    missing = tuple(sorted(set(capability.grants) - held))
    if missing:
        names = ", ".join(missing)
        unknown = f"the provider did not say whether it granted {names}"
        return Decision(
            allowed=False,
            capability=capability.name,
            mode="blocked",
            missing=missing,
            optional=tuple(sorted(set(capability.optional) - held)),
            reason=unknown if granted is None else f"the connection was not granted {names}",
        )
    lacking = tuple(sorted(set(capability.optional) - held))
    if lacking and capability.denied == "degrade":
        return Decision(
            allowed=True,
            capability=capability.name,
            mode="degraded",
            missing=lacking,
            optional=lacking,
            reason=f"works without {', '.join(lacking)}, but less well",
        )
    return Decision(allowed=True, capability=capability.name, mode="full", optional=lacking)


def missing(requested: Iterable[str], granted: Granted, implies: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What was requested and is not held; nothing where nobody knows what is."""
    return () if granted is None else tuple(sorted(set(requested) - with_implied(granted, implies)))


def drift(spec: ProviderSpec, requested: tuple[str, ...], granted: Granted) -> dict[str, Any]:
    """What is missing of what was requested, and for which capabilities that is required or only of use.

    A capability for which nothing was requested is not missed.
    """
    lacking = missing(requested, granted, spec.implies)
    lost = with_implied(requested, spec.implies) - with_implied(granted or (), spec.implies)
    return {
        "requested": list(requested),
        "granted": None if granted is None else list(granted),
        "missing": list(lacking),
        "required": _concerned({one.name: one.grants for one in spec.capabilities}, lost),
        "optional": _concerned({one.name: one.optional for one in spec.capabilities}, lost),
    }


def _concerned(grants: Mapping[str, tuple[str, ...]], lost: set[str]) -> dict[str, list[str]]:
    return {name: sorted(lost.intersection(taken)) for name, taken in grants.items() if lost.intersection(taken)}


def drifted(
    core: Core,
    instance: ProviderInstance,
    scope: Scope,
    connection_id: str,
    requested: tuple[str, ...],
    granted: Granted,
    *,
    before: Granted = None,
) -> tuple[Event, ...]:
    """The event ``grant.drift`` where less was granted than requested.

    With what was granted ``before``, only where something is missing that was not missing then.
    """
    implies = instance.spec.implies
    if not set(missing(requested, granted, implies)).difference(missing(requested, before, implies)):
        return ()
    return (
        event(
            core.clock,
            "grant.drift",
            drift(instance.spec, requested, granted),
            provider_id=instance.id,
            scope=scope,
            connection_id=connection_id,
        ),
    )


async def asked_again(core: Core, connection_id: str, requested: tuple[str, ...]) -> GrantEvent:
    """The line of the history that says that a connection is asked for ``requested``, held or not."""
    newest = await core.store.connections.grants(connection_id)
    granted = newest.granted if newest is not None else None
    return GrantEvent(
        id=uuid7(core.clock),
        connection_id=connection_id,
        type="reconsent_requested",
        requested=requested,
        granted=granted,
        added=tuple(sorted(set(requested).difference(granted or ()))),
        snapshot_version=newest.version if newest is not None else None,
        occurred_at=core.clock.now(),
    )


async def report(core: Core, connection_id: str) -> GrantReport:
    """Requested, granted and missing, and a decision for each capability; see ``Runtime.grants``."""
    connection, row = await core.store.connections.load(connection_id)
    newest = await core.store.connections.grants(connection_id)
    said = row or newest
    requested, granted = (said.requested, said.granted) if said is not None else ((), None)
    instance = core.instances.get(connection.provider_id)
    decisions: tuple[Decision, ...] = ()
    implies: Mapping[str, tuple[str, ...]] = {}
    if instance is not None:
        implies = instance.spec.implies
        tells = tells_grants(next((auth for auth in instance.spec.auth if auth.kind == connection.auth_kind), None))
        decisions = tuple(decide(one, granted, implies, tells=tells) for one in instance.spec.capabilities)
    return GrantReport(
        connection_id=connection_id,
        version=newest.version if newest is not None else 0,
        requested=requested,
        granted=granted,
        missing=missing(requested, granted, implies),
        capabilities=decisions,
        captured_at=newest.captured_at if newest is not None else None,
    )
