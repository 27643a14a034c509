"""The async face: what applications call."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import Core
from .face.connecting import Connecting
from .face.deliveries import Deliveries
from .face.events import Events
from .face.installing import Installing
from .face.keys import Keys
from .face.lifecycle import Lifecycle
from .face.looking import Looking
from .face.outbox import Outbox
from .face.outgoing import Outgoing
from .face.subscribing import Subscribing
from .face.using import Using

if TYPE_CHECKING:
    from ..clock import Clock
    from ..config.layers import Config
    from ..plugins import PluginManager
    from ..protocols import Store, Transport


class Runtime(
    Connecting, Using, Looking, Keys, Events, Outbox, Deliveries, Subscribing, Installing, Outgoing, Lifecycle
):
    """Connections, operations, webhooks and events of one application.

    Made by :meth:`open`. Every method may be called from any task of the loop that opened it; ``BlockingRuntime`` has
    the same methods for code without a loop.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        source: str | Path | Config | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        plugins: PluginManager | None = None,
        clock: Clock | None = None,
        store: Store | None = None,
        transport: Transport | None = None,
        wrap_transport: Callable[[Transport], Transport] | None = None,
        migrate: bool = False,
    ) -> AsyncGenerator[Runtime]:
        """Build the runtime from its configuration, and close it in the end.

        Args:
            source: the configuration file, or a loaded ``Config``; None looks for ``go-services.toml``.
            arguments: dotted keys and values over file and environment, e.g. ``{"store.url": "sqlite:///x.db"}``.
            plugins: a manager of your own, instead of what is installed.
            clock, store, transport: your own, instead of what the configuration names; for tests.
            wrap_transport: makes what sends in place of the transport, such as a recorder of it; for tests.
            migrate: apply pending migrations first, instead of refusing a database that needs them.

        Raises:
            ConfigError: with every problem of the configuration in one report.
            PluginError: an enabled plugin is broken, or two plugins claim one id.
            StoreUnavailable, SchemaOutOfDate, SchemaTooNew: the database cannot be used; nothing was changed.
            KeyInvalid: the secret backend's key cannot be used, or is not the one of this database; nothing was
                changed.
            BackendUnavailable: the secret backend does not answer. With ``[secrets] at_start = "lazy"`` this does not
                prevent the start: what needs a secret raises it until the backend answers.
        """
        from .build import build

        async with build(
            source,
            arguments=arguments,
            plugins=plugins,
            clock=clock,
            store=store,
            transport=transport,
            wrap_transport=wrap_transport,
            migrate=migrate,
        ) as (core, lifespans):
            runtime = cls(core)
            async with lifespans(runtime):
                yield runtime


def process_name() -> str:
    """A name for this process in leases and claims."""
    return f"{os.uname().nodename}:{os.getpid()}:{os.urandom(4).hex()}"
