"""The blocking face: the same methods as ``Runtime``, for code without an event loop.

One daemon thread per process runs the loop; any thread may call. A pre-forking server (gunicorn, uWSGI) may open it
before it forks: a fork waits for the calls that run and closes the runtime first, because neither a thread nor a SQLite
connection may be carried over (https://www.sqlite.org/howtocorrupt.html §2.6). Parent and child each open it again on
their next call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  registers its fork hook: see the end of this file
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from .blocking_calls import BlockingCalls
from .blocking_connecting import BlockingConnecting
from .blocking_deliveries import BlockingDeliveries
from .blocking_keys import BlockingKeys
from .blocking_lifecycle import BlockingLifecycle, register
from .blocking_outbox import BlockingOutbox
from .blocking_outgoing import BlockingOutgoing
from .blocking_resources import BlockingResources
from .blocking_work import BlockingWork
from .grants import GrantEvent, GrantReport
from .http import InboundRequest
from .model import (
    Accepted,
    Connection,
    Drained,
    GrantSnapshot,
    Health,
    KeyRef,
    MigrationStep,
    Page,
    Resolution,
    Scope,
    SecretState,
    StoreStatus,
    UserProfile,
)
from .outlook import ConnectionHealth
from .resources import Budget
from .runtime.forecast import WITHIN
from .runtime.runtime import Runtime
from .secret import SecretStr

if TYPE_CHECKING:
    from .catalog import Catalog
    from .clock import Clock
    from .config.layers import Config
    from .delivery_specs import Schedule
    from .handler_protocols import EventHandler
    from .hook_protocols import LifecycleHook
    from .plugins import PluginManager
    from .protocols import Observer, Store, Transport, Verdict
    from .providers import ProviderInstance

T = TypeVar("T")
P = ParamSpec("P")
_this_thread = threading.local()
"""Has ``runs_a_loop`` on the threads that are started here."""


def _refuse_a_loop() -> None:
    if getattr(_this_thread, "runs_a_loop", False):
        raise RuntimeError("BlockingRuntime was called on its own loop; use the async Runtime there")


class _Loop:
    """An event loop on a daemon thread, with a runtime opened in it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._main, name="go_services", daemon=True)
        self._thread.start()
        try:
            self.runtime = self.run(self._stack.enter_async_context(Runtime.open(**options)))
        except BaseException:
            self._stop()
            raise

    def _main(self) -> None:
        _this_thread.runs_a_loop = True
        self._loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._stop()

    def _stop(self) -> None:
        try:
            self.run(self._loop.shutdown_asyncgens())
            self.run(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class BlockingRuntime(
    BlockingCalls,
    BlockingConnecting,
    BlockingDeliveries,
    BlockingKeys,
    BlockingLifecycle,
    BlockingOutbox,
    BlockingOutgoing,
    BlockingResources,
    BlockingWork,
):
    """``Runtime`` for Django, Flask and scripts. Each method is documented at its namesake."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._gate = threading.Condition()
        self._calls = 0
        self._forks = 0
        self._handlers: dict[str, tuple[str, EventHandler, Mapping[str, Any]]] = {}
        self._surfaces = {}
        self._observers: dict[str, tuple[Observer, bool]] = {}
        self._hooks: dict[tuple[str, str], tuple[str, LifecycleHook]] = {}
        self._current: _Loop | None = _Loop(options)
        self._closed = False
        _opened.add(self)

    @classmethod
    @contextmanager
    def open(
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
    ) -> Generator[BlockingRuntime]:
        options = {
            "source": source,
            "arguments": arguments,
            "plugins": plugins,
            "clock": clock,
            "store": store,
            "transport": transport,
            "wrap_transport": wrap_transport,
            "migrate": migrate,
        }
        opened = cls(options)
        try:
            yield opened
        finally:
            opened.close()

    def close(self) -> None:
        """Finish what is running and close; idempotent."""
        _refuse_a_loop()
        with self._gate:
            self._closed = True
            self._shut()

    def _shut(self) -> None:
        """Close the loop with the gate held: another thread may not fork until that is done."""
        loop, self._current = self._current, None
        if loop is not None:
            loop.close()

    def _reaches(self, loop: _Loop) -> bool:
        """Whether ``loop`` is still the one in use, and may be called from this thread."""
        return self._current is loop and not self._closed and not getattr(_this_thread, "runs_a_loop", False)

    @contextmanager
    def _in_use(self) -> Generator[_Loop]:
        """The loop for one call, opened again after a fork; a fork waits for the end of the call."""
        _refuse_a_loop()
        with self._gate:
            self._gate.wait_for(lambda: not self._forks)
            if self._closed:
                raise RuntimeError("this BlockingRuntime is closed")
            loop = self._current = self._current or self._start()
            self._calls += 1
        try:
            yield loop
        finally:
            with self._gate:
                self._calls -= 1
                self._gate.notify_all()

    def _start(self) -> _Loop:
        loop = _Loop(self._options)
        for events, handler, options in self._handlers.values():
            loop.run(loop.runtime.on(events, handler, **options))
        for (surface, provider_id), answering in self._surfaces.items():
            loop.run(loop.runtime.on_request(surface, provider_id, answering))
        for name, (observer, inline) in self._observers.items():
            loop.runtime.observe(observer, name=name, inline=inline)
        for (when, name), (events, hook) in self._hooks.items():
            loop.run(register(loop.runtime, when, events, hook, name))
        return loop

    def _before_fork(self) -> None:
        with self._gate:
            self._forks += 1
            self._gate.wait_for(lambda: not self._calls)
            self._shut()

    def _after_fork_in_parent(self) -> None:
        with self._gate:
            self._forks -= 1
            self._gate.notify_all()

    def _after_fork_in_child(self) -> None:
        self._gate = threading.Condition()  # the old one may be held by a thread that does not exist here
        self._calls = self._forks = 0
        self._current = None

    def _run(
        self, call: Callable[Concatenate[Runtime, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self._in_use() as loop:
            return loop.run(call(loop.runtime, *args, **kwargs))

    def run(
        self, call: Callable[Concatenate[Runtime, P], Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run an async function of your own on the loop; it gets the async face, and then what is given here."""
        return self._run(call, *args, **kwargs)

    # --- looking ---------------------------------------------------------------------------------------------------

    def budget(self, connection_id: str, operation: str) -> Mapping[str, Budget]:
        return self._run(Runtime.budget, connection_id, operation)

    def connection(self, connection_id: str) -> Connection:
        return self._run(Runtime.connection, connection_id)

    def profile(self, connection_id: str) -> UserProfile:
        return self._run(Runtime.profile, connection_id)

    def connections(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        status: str | None = None,
        secret_state: SecretState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Connection]:
        return self._run(
            Runtime.connections,
            provider_id=provider_id,
            scope=scope,
            status=status,
            secret_state=secret_state,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )

    def connection_counts(self) -> Mapping[str, Mapping[str, int]]:
        return self._run(Runtime.connection_counts)

    def connection_health(self, connection_id: str, *, within: timedelta = WITHIN) -> ConnectionHealth:
        return self._run(Runtime.connection_health, connection_id, within=within)

    def connections_health(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        within: timedelta = WITHIN,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[ConnectionHealth]:
        return self._run(
            Runtime.connections_health, provider_id=provider_id, scope=scope, within=within, after=after, limit=limit
        )

    def grants(self, connection_id: str) -> GrantReport:
        return self._run(Runtime.grants, connection_id)

    def grant_events(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantEvent]:
        return self._run(Runtime.grant_events, connection_id, after=after, limit=limit)

    def grant_snapshots(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantSnapshot]:
        return self._run(Runtime.grant_snapshots, connection_id, after=after, limit=limit)

    def resolve(self, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Resolution:
        return self._run(Runtime.resolve, provider_id, scope, parents=parents)

    def find(self, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Connection:
        return self._run(Runtime.find, provider_id, scope, parents=parents)

    def providers(self) -> Mapping[str, ProviderInstance]:
        with self._in_use() as loop:
            return loop.runtime.providers()

    def catalog(self) -> Catalog:
        with self._in_use() as loop:
            return loop.runtime.catalog()

    def store_status(self) -> StoreStatus:
        return self._run(Runtime.store_status)

    def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        return self._run(Runtime.migrate, dry_run=dry_run)

    def check_key(self) -> KeyRef:
        return self._run(Runtime.check_key)

    def check_settings(self) -> int:
        return self._run(Runtime.check_settings)

    def health(self) -> list[tuple[str, Health]]:
        return self._run(Runtime.health)

    # --- events in and out -----------------------------------------------------------------------------------------

    def accept_webhook(
        self, provider_id: str, request: InboundRequest, *, connection_id: str | None = None
    ) -> Accepted:
        return self._run(Runtime.accept_webhook, provider_id, request, connection_id=connection_id)

    def verify_webhook(
        self,
        provider_id: str,
        request: InboundRequest,
        *,
        secrets: Sequence[SecretStr] | None = None,
        at: datetime | None = None,
    ) -> Verdict:
        return self._run(Runtime.verify_webhook, provider_id, request, secrets=secrets, at=at)

    def on(
        self,
        events: str,
        handler: EventHandler,
        *,
        name: str,
        timeout: float | None = None,
        schedule: Schedule | None = None,
        concurrency: int | None = None,
    ) -> None:
        options: dict[str, Any] = {"name": name, "timeout": timeout, "schedule": schedule, "concurrency": concurrency}
        self._run(Runtime.on, events, handler, **options)
        self._handlers[name] = (events, handler, options)

    def observe(self, observer: Observer, *, name: str, inline: bool = False) -> None:
        with self._in_use() as loop:
            loop.runtime.observe(observer, name=name, inline=inline)
        self._observers[name] = (observer, inline)

    def drain(self) -> Drained:
        return self._run(Runtime.drain)

    def run_due(self, kind: str, limit: int = 50) -> int:
        return self._run(Runtime.run_due, kind, limit)


_opened: weakref.WeakSet[BlockingRuntime] = weakref.WeakSet()


def _before_fork() -> None:
    if not getattr(_this_thread, "runs_a_loop", False):  # such a thread would wait for itself
        for runtime in list(_opened):
            runtime._before_fork()


def _after_fork_in_parent() -> None:
    if not getattr(_this_thread, "runs_a_loop", False):
        for runtime in list(_opened):
            runtime._after_fork_in_parent()


def _after_fork_in_child() -> None:
    _this_thread.runs_a_loop = False
    for runtime in list(_opened):
        runtime._after_fork_in_child()


# The hooks that are registered last run first. Ours must run before the one of concurrent.futures, which takes a lock
# that closing the loop needs; hence the import above.
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
