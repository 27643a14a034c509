"""The contract page: every hook that a plugin may implement.

Hooks are for registration. Each is called once, while the runtime is built, and returns frozen records or an object;
signing, sending, sealing and verifying are calls on the objects behind the records, never hook calls.

A plugin is a module named by an entry point of the group ``go_services.plugins``. It states ``GS_CONTRACT = 1``, the
major version of this page that it was written for, imports nothing heavy, and implements hooks with ``@hookimpl``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from . import ownership as o
    from . import specs as s
    from .catalog import Catalog
    from .runtime.runtime import Runtime

PROJECT: Final = "go_services"
CONTRACT: Final = 1
GROUP: Final = "go_services.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """All hooks. A plugin that is a class may inherit from this one, so that mypy checks its results."""

    # --- collected: no arguments, records, every plugin's answer counts -------------------------------------------

    @hookspec
    def gs_providers(self) -> Iterable[s.ProviderSpec]:
        """Providers that can be connected."""
        return ()

    @hookspec
    def gs_operations(self) -> Iterable[s.OperationPack]:
        """Capabilities and operations for a provider that another plugin brings."""
        return ()

    @hookspec
    def gs_auth_strategies(self) -> Iterable[s.AuthStrategySpec]:
        """Auth flows, by the ``kind`` of the record that they serve."""
        return ()

    @hookspec
    def gs_jose(self) -> Iterable[s.JoseSpec]:
        """What signs and verifies JSON Web Tokens for the core's flows."""
        return ()

    @hookspec
    def gs_signers(self) -> Iterable[s.SignerSpec]:
        """Ways to put a credential on a request, by scheme."""
        return ()

    @hookspec
    def gs_transports(self) -> Iterable[s.TransportSpec]:
        """Ways to send a request, by kind."""
        return ()

    @hookspec
    def gs_secret_backends(self) -> Iterable[s.SecretBackendSpec]:
        """Keepers of wrapping keys; ``[secrets] backend`` chooses one."""
        return ()

    @hookspec
    def gs_secret_sources(self) -> Iterable[s.SecretSourceSpec]:
        """Where settings may keep secrets, by the scheme of the reference (``env:``, ``file:``)."""
        return ()

    @hookspec
    def gs_stores(self) -> Iterable[s.StoreSpec]:
        """Stores; the scheme of ``[store] url`` chooses one."""
        return ()

    @hookspec
    def gs_webhook_schemes(self) -> Iterable[s.WebhookSchemeSpec]:
        """Verifiers of inbound webhooks, by the ``scheme`` of the record."""
        return ()

    @hookspec
    def gs_inbound_surfaces(self) -> Iterable[s.SurfaceSpec]:
        """Ways in for requests that want the handler's answer."""
        return ()

    @hookspec
    def gs_event_handlers(self) -> Iterable[s.EventHandlerSpec]:
        """Durable handlers of committed events."""
        return ()

    @hookspec
    def gs_notifications(self) -> Iterable[s.NotificationSpec]:
        """Notifications of people: which events, whom, and how."""
        return ()

    @hookspec
    def gs_lifecycle_hooks(self) -> Iterable[s.LifecycleHookSpec]:
        """Hooks before and after the commit of events."""
        return ()

    @hookspec
    def gs_activity_enrichers(self) -> Iterable[s.ActivityEnricherSpec]:
        """What adds to entries of the activity log."""
        return ()

    @hookspec
    def gs_observers(self) -> Iterable[s.ObserverSpec]:
        """Watchers of this process."""
        return ()

    @hookspec
    def gs_job_engines(self) -> Iterable[s.JobEngineSpec]:
        """Engines that run jobs outside this process."""
        return ()

    @hookspec
    def gs_messages(self) -> Iterable[s.MessageSpec]:
        """Commands and queries that can be dispatched by name."""
        return ()

    @hookspec
    def gs_commands(self) -> Iterable[s.CommandSpec]:
        """Subcommands of ``go-services``. A built-in name cannot be taken."""
        return ()

    @hookspec
    def gs_health_checks(self) -> Iterable[s.HealthCheckSpec]:
        """Checks for ``go-services doctor``."""
        return ()

    # --- ownership: a provider id, the first answer wins, the core answers last ------------------------------------

    @hookspec(firstresult=True)
    def gs_callback_url(self, provider_id: str) -> o.CallbackUrl | None:
        """The object that chooses this provider's redirect URI, or None to leave it to others."""
        return None

    @hookspec(firstresult=True)
    def gs_error_classifier(self, provider_id: str) -> o.ErrorClassifier | None:
        """The object that types this provider's error answers, or None."""
        return None

    @hookspec(firstresult=True)
    def gs_rate_limit_policy(self, provider_id: str) -> o.RateLimitPolicy | None:
        """The object that keeps this provider's budget, or None."""
        return None

    @hookspec(firstresult=True)
    def gs_connection_policy(self, provider_id: str) -> o.ConnectionPolicy | None:
        """The object that chooses the connection for a scope, or None."""
        return None

    # --- life cycle ------------------------------------------------------------------------------------------------

    @hookspec
    def gs_catalog_ready(self, catalog: Catalog) -> None:
        """The catalogue is complete; check here what spans plugins. Raise to refuse the start."""

    @hookspec
    def gs_lifespan(self, runtime: Runtime) -> AbstractAsyncContextManager[None]:
        """A context that is entered when the runtime has opened and left before it closes."""
        raise LookupError  # never called: a specification has no body


COLLECTED: Final = tuple(
    name
    for name, member in vars(HookSpecs).items()
    if name.startswith("gs_") and getattr(member, "__code__", None) and member.__code__.co_argcount == 1
)
"""The hooks without arguments, in the order of this page."""
