"""Where the runtime gets the events that it hands to the store: hooks before the commit are asked here, and only here.

What may still be refused is made by :func:`proposed`; what happened already, at a provider or in a commit, by
:func:`told`. Neither makes the other's, so that no emitter can leave the hooks out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import lifecycle
from ..model import Connection, Event, Scope

if TYPE_CHECKING:
    from .core import Core


async def proposed(
    core: Core,
    name: str,
    payload: Mapping[str, Any],
    *,
    provider_id: str,
    scope: Scope,
    connection_id: str | None = None,
) -> Event:
    """The event of a change that every hook before the commit has let pass.

    Raises:
        HookRefused: one did not; nothing was changed.
    """
    event = lifecycle.event(
        core.clock, name, payload, provider_id=provider_id, scope=scope, connection_id=connection_id
    )
    await let_pass(core, event)
    return event


async def let_pass(core: Core, event: Event) -> None:
    """Ask the hooks about an event that is made elsewhere. Raises HookRefused."""
    spec = lifecycle.spec_of(event.name)
    if spec is None or not spec.refusable:
        raise AssertionError(f"{event.name} cannot be refused: make it with told()")
    await core.hooks.ask(event)


def told(core: Core, connection: Connection, name: str, payload: Mapping[str, Any]) -> Event:
    """The event of what happened to a connection and cannot be refused any more."""
    spec = lifecycle.spec_of(name)
    if spec is not None and spec.refusable:
        raise AssertionError(f"{name} may be refused: make it with proposed()")
    return lifecycle.of_connection(core.clock, connection, name, payload)
