"""Building the runtime's parts from configuration and plugins, in the order in which they need each other."""

from __future__ import annotations

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from ..clock import Clock, SystemClock
from ..config.layers import Config
from ..config.report import check
from ..config.roots import EgressRoot, RuntimeRoot, SecretsRoot, StoreRoot, WorkerRoot
from ..config.secrets import resolver
from ..errors import CannotOpen, ConfigError, FacetMissing, KeyInvalid, KeyNotFound
from ..model import Binding, KeyRef, Sealed
from ..plugins import PluginManager
from ..protocols import PluginEnv, Sealer, Store, Transport
from ..providers import build_instances
from .core import Core, Ownership
from .delivery import register
from .runtime import Runtime, finish, process_name

if TYPE_CHECKING:
    from ..catalog import Catalog

NEEDED_FACETS = ("connections", "queues", "once")
_KEY_CHECK = "key_check"
_CANARY = b"go_services key check"


@asynccontextmanager
async def build(
    source: str | Path | Config | None,
    *,
    arguments: Mapping[str, Any] | None,
    plugins: PluginManager | None,
    clock: Clock | None,
    store: Store | None,
    transport: Transport | None,
    migrate: bool,
) -> AsyncGenerator[tuple[Core, Callable[[Runtime], AbstractAsyncContextManager[None]]]]:
    """Every part, opened; closed in reverse. See ``Runtime.open``."""
    config = source if isinstance(source, Config) else Config.load(source, arguments=arguments)
    manager = plugins if plugins is not None else PluginManager.from_config(config)
    catalog = manager.catalog()
    problems = check(config, catalog)
    if problems:
        raise ConfigError(problems=problems)
    resolve = resolver(config, catalog)
    clock = clock or SystemClock()

    (settings,) = config.bind("runtime", RuntimeRoot, resolve=resolve)
    (worker,) = config.bind("worker", WorkerRoot, resolve=resolve)
    (egress,) = config.bind("egress", EgressRoot, resolve=resolve)
    instances = build_instances(config, catalog, resolve)
    env = PluginEnv(
        clock=clock,
        logger=logging.getLogger("go_services.plugins"),
        resolve_secret=resolve,
        egress_allow=egress.allow,
    )

    async with AsyncExitStack() as stack:
        if transport is None:
            transport = _transport(config, catalog, env, resolve)
            stack.push_async_callback(transport.aclose)
        env = evolve(env, transport=transport)
        secrets = catalog.secret_backend(str(config.get("secrets.backend", SecretsRoot().backend)))
        backend = secrets.factory.resolve()(_settings(config, f"secrets.{secrets.id}", secrets.settings, resolve), env)
        stack.push_async_callback(backend.aclose)
        await backend.check()  # before the database is touched
        if store is None:
            store = open_store(config, catalog, env)
        if migrate:
            await store.migrate()
        await store.open()
        stack.push_async_callback(store.aclose)
        sealer = secrets.sealer.resolve()(backend, store_id=store.id, clock=clock)
        await _check_key(store, sealer)

        core = Core(
            settings=settings,
            worker=worker,
            catalog=catalog,
            instances=instances,
            ownership={id: _ownership(manager, instance.plugin_provider) for id, instance in instances.items()},
            store=store,
            backend=backend,
            sealer=sealer,
            transport=transport,
            clock=clock,
            owner=process_name(),
        )
        await register(
            core, {name: (spec.events, spec.handler.resolve()) for name, spec in catalog.event_handlers.items()}
        )
        for id, spec in sorted(catalog.observers.items()):
            observer_settings = _settings(config, f"observers.{id}", spec.settings, resolve)
            core.observers.append((id, spec.factory.resolve()(observer_settings, env)))
        stack.push_async_callback(finish, core)

        @asynccontextmanager
        async def lifespans(runtime: Runtime) -> AsyncGenerator[None]:
            async with AsyncExitStack() as inner:
                for lifespan in manager.lifespans(runtime):
                    await inner.enter_async_context(lifespan)
                yield

        yield core, lifespans


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


def _transport(config: Config, catalog: Catalog, env: PluginEnv, resolve: Any) -> Transport:
    spec = catalog.transport("rest")
    return spec.factory.resolve()(_settings(config, "transport", spec.settings, resolve), env)


def _settings(config: Config, key: str, settings: Any, resolve: Any) -> Any:
    if settings is None:
        return None
    (bound,) = config.bind(key, settings, resolve=resolve)
    return bound


def _ownership(manager: PluginManager, provider_id: str) -> Ownership:
    return Ownership(
        callback_url=manager.first("gs_callback_url", provider_id),
        error_classifier=manager.first("gs_error_classifier", provider_id),
        rate_limit_policy=manager.first("gs_rate_limit_policy", provider_id),
        connection_policy=manager.first("gs_connection_policy", provider_id),
    )


async def _check_key(store: Store, sealer: Sealer) -> None:
    """Prove that the key is the one that this database was begun with.

    A sealed constant is kept in the database by the first start; a start with another key cannot open it.

    Raises:
        KeyInvalid: the key is another one; nothing was changed.
    """
    binding = Binding(purpose="key-check", provider_id="", scope=None, record_id="key-check")
    sealed = await sealer.seal(_CANARY, binding)
    mine = {
        "backend": sealed.key.backend,
        "key_id": sealed.key.key_id,
        "key_version": sealed.key.key_version,
        "ciphertext": b64encode(sealed.ciphertext).decode(),
    }
    kept = json.loads(await store.remember(_KEY_CHECK, json.dumps(mine).encode()))
    key = KeyRef(kept["backend"], kept["key_id"], kept["key_version"])
    try:
        opened = await sealer.open(Sealed(b64decode(kept["ciphertext"]), key), binding)
    except (CannotOpen, KeyNotFound) as error:
        raise KeyInvalid(
            f"This database is sealed with key {key.key_id} of backend {key.backend}; the configured key is "
            f"{sealed.key.key_id} of {sealed.key.backend}.",
            hint="Configure the key that the database was begun with. Nothing was changed.",
        ) from error
    if opened.reveal() != _CANARY:
        raise KeyInvalid("The database's key check does not open to what it should.")
