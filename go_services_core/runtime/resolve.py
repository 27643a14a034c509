"""Which connection serves a scope: its own, or one that it inherits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import BadInput, ConnectionAmbiguous, ConnectionNotFound, PermissionDenied
from ..model import Connection, Resolution, Scope
from .core import Core


async def resolve(core: Core, provider_id: str, scope: Scope, *, parents: Iterable[Scope]) -> Resolution:
    """The active connection that serves ``scope``; see ``Runtime.resolve``."""
    instance = core.instance(provider_id)
    above = tuple(dict.fromkeys(parents))
    if any(parent.type != "org" for parent in above) or (above and scope.type != "user"):
        raise BadInput("Only a user inherits, and only from organisations.", field="parents")
    policy = core.ownership[instance.id].connection_policy
    inherits = instance.inheritance == "org"
    levels = [await _active(core, instance.id, one) for one in (scope, *(above if inherits else ()))]
    if policy is not None:
        chosen = policy(scope, [connection for level in levels for connection in level])
        if chosen is not None:
            if all(chosen.id != connection.id for level in levels for connection in level):
                raise PermissionDenied(
                    f"The connection policy of {instance.id} chose a connection that may not serve {scope}.",
                    hint="A policy chooses among the connections that it is given.",
                    plugin=instance.id,
                )
            return served(scope, chosen)
    for whose, level in zip((scope, *above), levels, strict=False):
        if len(level) == 1:
            return served(scope, level[0])
        if level:
            return Resolution(
                outcome="ambiguous",
                candidates=tuple(connection.id for connection in level),
                reason=f"There is more than one active connection of {provider_id} for {whose}.",
            )
    asked = " or ".join(map(str, (scope, *above) if inherits else (scope,)))
    kept = f" [providers.{instance.id}] does not let a user inherit." if above and not inherits else ""
    return Resolution(outcome="not_found", reason=f"There is no active connection of {provider_id} for {asked}.{kept}")


async def find(core: Core, provider_id: str, scope: Scope, *, parents: Iterable[Scope]) -> Connection:
    """As :func:`resolve`, where one is needed; see ``Runtime.find``."""
    found = await resolve(core, provider_id, scope, parents=parents)
    if found.connection is not None:
        return found.connection
    raise unresolved(found)


def unresolved(found: Resolution) -> ConnectionNotFound:
    """The error where one connection is needed, and none serves or several do."""
    if found.outcome == "ambiguous":
        return ConnectionAmbiguous(
            found.reason, hint="Name the connection by its id.", metadata={"candidates": list(found.candidates)}
        )
    return ConnectionNotFound(found.reason, hint="Connect it first.")


def served(scope: Scope, connection: Connection) -> Resolution:
    """That ``connection`` serves ``scope``."""
    if connection.scope == scope:
        return Resolution(outcome="direct", connection=connection)
    return Resolution(outcome="inherited", connection=connection, parent=connection.scope)


async def _active(core: Core, provider_id: str, scope: Scope) -> Sequence[Connection]:
    found: list[Connection] = []
    after = None
    while True:
        page = await core.store.connections.list(provider_id=provider_id, scope=scope, status="active", after=after)
        found += page.items
        after = page.next
        if after is None:
            return found
