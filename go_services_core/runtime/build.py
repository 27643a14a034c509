"""Building the runtime's parts from configuration and plugins, in the order in which they need each other."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve

from .. import log_redaction
from ..clock import Clock, SystemClock
from ..config.layers import Config
from ..config.report import check
from ..config.retention import RetentionRoot
from ..config.roots import (
    ActivityRoot,
    EgressRoot,
    EndpointsRoot,
    RuntimeRoot,
    SecretsRoot,
    StoreRoot,
    WebhooksRoot,
    WorkerRoot,
)
from ..config.secrets import resolver
from ..endpoints import ENDPOINT_PROVIDER
from ..errors import BackendUnavailable, ConfigError, FacetMissing
from ..plugins import PluginManager
from ..protocols import PluginEnv, Store, Transport
from ..providers import build_instances
from ..sealing import SecretBackend
from . import notifications, subscription_notices, webhook_fanout, webhook_sends
from .activity import NAME as ACTIVITY
from .budget import close as close_budgets
from .core import Core, Ownership, logger
from .due import check_kinds
from .handlers import Registration, register
from .keycheck import CheckedSealer
from .observations import Observations
from .observers import Observers
from .refresh import finish
from .runtime import Runtime, process_name
from .secret_backends import secret_backends
from .settings_secrets import read_ahead
from .stand_ins import StandIns
from .subscription_endings import tell_end
from .surfaces import register_plugins

if TYPE_CHECKING:
    from ..catalog import Catalog
    from ..exchange import CallTransport

NEEDED_FACETS = ("connections", "queues", "once")


@asynccontextmanager
async def build(
    source: str | Path | Config | None,
    *,
    arguments: Mapping[str, Any] | None,
    plugins: PluginManager | None,
    clock: Clock | None,
    store: Store | None,
    transport: Transport | None,
    wrap_transport: Callable[[Transport], Transport] | None,
    migrate: bool,
) -> AsyncGenerator[tuple[Core, Callable[[Runtime], AbstractAsyncContextManager[None]]]]:
    """Every part, opened; closed in reverse. See ``Runtime.open``."""
    config = source if isinstance(source, Config) else Config.load(source, arguments=arguments)
    manager = plugins if plugins is not None else PluginManager.from_config(config)
    catalog = manager.catalog()
    problems = check(config, catalog)
    if problems:
        raise ConfigError(problems=problems)
    clock = clock or SystemClock()
    resolve = resolver(config, catalog, clock=clock)

    (settings,) = config.bind("runtime", RuntimeRoot, resolve=resolve)
    (worker,) = config.bind("worker", WorkerRoot, resolve=resolve)
    check_kinds(worker)
    (retention,) = config.bind("retention", RetentionRoot, resolve=resolve)
    (webhooks,) = config.bind("webhooks", WebhooksRoot, resolve=resolve)
    (endpoints,) = config.bind("endpoints", EndpointsRoot, resolve=resolve)
    (activity,) = config.bind("activity", ActivityRoot, resolve=resolve)
    (egress,) = config.bind("egress", EgressRoot, resolve=resolve)
    instances = build_instances(config, catalog, resolve)
    env = PluginEnv(
        clock=clock,
        logger=logging.getLogger("go_services.plugins"),
        resolve_secret=resolve,
        egress_allow=egress.allow,
    )

    async with AsyncExitStack() as stack:
        stack.callback(log_redaction.install(every_logger=settings.redact_logs))
        observers = Observers()
        stack.push_async_callback(observers.aclose)
        observations = Observations()
        stack.push_async_callback(observations.aclose)
        env = evolve(env, observe=observations)
        if transport is None:
            transport = await _transport(config, catalog, env, resolve)
            stack.push_async_callback(transport.aclose)
        if wrap_transport is not None:
            transport = wrap_transport(transport)
        env = evolve(env, transport=transport)
        secrets = catalog.secret_backend(str(config.get("secrets.backend", SecretsRoot().backend)))
        secret_backend = secret_backends(
            catalog, env, lambda key, settings: _settings(config, key, settings, resolve), stack
        )
        env = evolve(env, secret_backend=secret_backend)
        for id in catalog.secret_backends.keys() & config.table("secrets").keys():
            await read_ahead(_settings(config, f"secrets.{id}", catalog.secret_backend(id).settings, resolve))
        backend = secret_backend(secrets.id)
        required = config.get("secrets.at_start", SecretsRoot().at_start) == "require"
        if required:
            await backend.check()  # before the database is touched
        if store is None:
            store = open_store(config, catalog, env)
        if migrate:
            await store.migrate()
        await store.open()
        stack.push_async_callback(store.aclose)
        owner = process_name()
        on_stand_in = StandIns(store, clock, owner)
        sealer = CheckedSealer(
            secrets.sealer.resolve()(backend, store_id=store.id, clock=clock, on_stand_in=on_stand_in), store
        )
        try:
            await sealer.prove()
        except BackendUnavailable as error:
            if required:
                raise
            logger.warning("started without the secret backend %s: %s", backend.id, error)

        core = Core(
            settings=settings,
            worker=worker,
            retention=retention,
            webhooks=webhooks,
            endpoints=endpoints,
            endpoint_hosts=tuple(egress.allow.get(ENDPOINT_PROVIDER, ())),
            activity=activity,
            catalog=catalog,
            instances=instances,
            ownership={id: _ownership(manager, instance.plugin_provider) for id, instance in instances.items()},
            store=store,
            backend=backend,
            sealer=sealer,
            transport=transport,
            clock=clock,
            owner=owner,
            observers=observers,
            open_kind=lambda kind: _kind(config, catalog, env, resolve, kind),
        )
        core.cancel_subscription = partial(tell_end, core)
        stack.push_async_callback(_close_kinds, core)
        await register(core, notifications.handlers_of(core.catalog.notifications.values()))
        await register(
            core,
            {
                **subscription_notices.handlers(core),
                **{
                    name: Registration(
                        events=spec.events,
                        handler=spec.handler.resolve(),
                        timeout=spec.timeout,
                        schedule=spec.schedule,
                        concurrency=spec.concurrency,
                    )
                    for name, spec in catalog.event_handlers.items()
                    if activity.enabled or name != ACTIVITY
                },
            },
        )
        register_plugins(core)
        if not activity.enabled:  # it may have been: nothing new waits for a handler that nobody runs
            await store.queues.register_handlers({ACTIVITY: ""}, now=clock.now())
        webhook_fanout.load(core)
        for id, spec in sorted(catalog.observers.items()):
            observer_settings = _settings(config, f"observers.{id}", spec.settings, resolve)
            observers.add(id, spec.factory.resolve()(observer_settings, env), inline=spec.inline)
        observations.start(core.observe)
        for name, hook in sorted(catalog.lifecycle_hooks.items()):
            for register_hook, ref in ((core.hooks.before, hook.before), (core.hooks.after, hook.after)):
                if ref is not None:
                    register_hook(hook.events, ref.resolve(), name=name)
        stack.push_async_callback(core.hooks.aclose)
        stack.push_async_callback(close_budgets, core)
        stack.push_async_callback(finish, core)
        stack.push_async_callback(webhook_sends.finish, core)

        @asynccontextmanager
        async def lifespans(runtime: Runtime) -> AsyncGenerator[None]:
            async with AsyncExitStack() as inner:
                for lifespan in manager.lifespans(runtime):
                    await inner.enter_async_context(lifespan)
                yield

        yield core, lifespans


@asynccontextmanager
async def open_secret_backend(config: Config, *, plugins: PluginManager | None = None) -> AsyncGenerator[SecretBackend]:
    """The configured secret backend alone, for making its first key: no store is opened, no key is asked for.

    Raises:
        ConfigError: with every problem of the configuration in one report.
        PluginNotFound: no installed plugin offers the backend.
    """
    manager = plugins if plugins is not None else PluginManager.from_config(config)
    catalog = manager.catalog()
    problems = check(config, catalog)
    if problems:
        raise ConfigError(problems=problems)
    clock = SystemClock()
    resolve = resolver(config, catalog, clock=clock)
    env = PluginEnv(clock=clock, logger=logging.getLogger("go_services.plugins"), resolve_secret=resolve)
    async with AsyncExitStack() as stack:
        make = secret_backends(catalog, env, lambda key, settings: _settings(config, key, settings, resolve), stack)
        yield make(str(config.get("secrets.backend", SecretsRoot().backend)))


def open_store(config: Config, catalog: Catalog, env: PluginEnv) -> Store:
    """The configured store, not opened yet.

    Raises:
        ConfigError: no installed store serves the URL's scheme.
        FacetMissing: the store lacks what the runtime needs.
    """
    spec = catalog.store_for(str(config.get("store.url", StoreRoot().url)))
    missing = [facet for facet in NEEDED_FACETS if facet not in spec.facets]
    if missing:
        raise FacetMissing(f"The store {spec.id} has no facet {', '.join(missing)}, which the runtime needs.")
    classes = (StoreRoot,) if spec.settings is None else (StoreRoot, spec.settings)
    bound = config.bind("store", *classes, resolve=env.resolve_secret)
    return spec.factory.resolve()(bound[-1], env)


async def _transport(config: Config, catalog: Catalog, env: PluginEnv, resolve: Any) -> Transport:
    await read_ahead(_settings(config, "transport", catalog.transport("rest").settings, resolve))  # those of proxies
    return cast("Transport", _kind(config, catalog, env, resolve, "rest"))


def _kind(config: Config, catalog: Catalog, env: PluginEnv, resolve: Any, kind: str) -> Transport | CallTransport:
    spec = catalog.transport(kind)
    table = "transport" if kind == "rest" else f"transport.{kind}"
    return spec.factory.resolve()(_settings(config, table, spec.settings, resolve), env)


async def _close_kinds(core: Core) -> None:
    for kind in core.kinds.values():
        aclose = getattr(kind, "aclose", None)
        if aclose is not None:
            await aclose()


def _settings(config: Config, key: str, settings: Any, resolve: Any) -> Any:
    if settings is None:
        return None
    (bound,) = config.bind(key, settings, resolve=resolve)
    return bound


def _ownership(manager: PluginManager, provider_id: str) -> Ownership:
    plugin, callback_url = manager.first_with_owner("gs_callback_url", provider_id)
    return Ownership(
        callback_url=callback_url,
        callback_url_plugin=plugin,
        error_classifier=manager.first("gs_error_classifier", provider_id),
        rate_limit_policy=manager.first("gs_rate_limit_policy", provider_id),
        connection_policy=manager.first("gs_connection_policy", provider_id),
    )
