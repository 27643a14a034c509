"""Secret backends by their id, for the runtime and for backends that are made of others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from attrs import evolve

from ..errors import ConfigError
from ..protocols import PluginEnv
from ..sealing import SecretBackend

if TYPE_CHECKING:
    from ..catalog import Catalog


def secret_backends(
    catalog: Catalog, env: PluginEnv, settings: Callable[[str, Any], Any], stack: AsyncExitStack
) -> Callable[[str], SecretBackend]:
    """What makes the secret backend of an id: each one once, closed with ``stack``.

    Args:
        catalog: where backends are looked up.
        env: what they get, with this very function as ``secret_backend``.
        settings: key of a table and its settings class → the settings.
        stack: closes a backend after those that are made of it.

    Returns:
        A function that raises PluginNotFound for an id that no plugin offers, ConfigError for backends that are made
        of one another in a circle, and whatever the backend's factory raises.
    """
    made: dict[str, SecretBackend] = {}
    making: list[str] = []

    def make(id: str) -> SecretBackend:
        if id in made:
            return made[id]
        if id in making:
            circle = " → ".join([*making[making.index(id) :], id])
            raise ConfigError(
                f"A secret backend cannot be made of itself: {circle}.",
                hint="Name another backend.",
                field=f"secrets.{making[-1]}",
            )
        spec = catalog.secret_backend(id)
        making.append(id)
        try:
            backend = spec.factory.resolve()(settings(f"secrets.{spec.id}", spec.settings), inner)
        finally:
            making.pop()
        stack.push_async_callback(backend.aclose)
        made[id] = backend
        return backend

    inner = evolve(env, secret_backend=make)
    return make
