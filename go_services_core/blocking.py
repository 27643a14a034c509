"""The blocking face: the same methods as ``Runtime``, for code without an event loop.

One daemon thread per process runs the loop; any thread may call. After a fork the child gets a thread and a runtime of
its own on first use, so that a pre-forking server (gunicorn, uWSGI) may open it before it forks.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from .http import HttpRequest, InboundRequest
from .model import (
    Accepted,
    Connection,
    ConnectStart,
    Decision,
    Disconnected,
    Drained,
    Health,
    KeyRef,
    MigrationStep,
    OperationResult,
    Page,
    Scope,
    StoreStatus,
)
from .runtime.runtime import Runtime
from .secret import SecretStr

if TYPE_CHECKING:
    from .catalog import Catalog
    from .clock import Clock
    from .config.layers import Config
    from .plugins import PluginManager
    from .protocols import EventHandler, Observer, Store, Transport
    from .providers import ProviderInstance

T = TypeVar("T")
P = ParamSpec("P")
_DONE: Any = object()


class _Loop:
    """An event loop on a daemon thread, with a runtime opened in it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, name="go_services", daemon=True)
        self._thread.start()
        try:
            self.runtime = self.run(self._stack.enter_async_context(Runtime.open(**options)))
        except BaseException:
            self._stop()
            raise

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("BlockingRuntime was called on its own loop; use the async Runtime there")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingRuntime:
    """``Runtime`` for Django, Flask and scripts. Each method is documented at its namesake."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._handlers: dict[str, tuple[str, EventHandler]] = {}
        self._observers: dict[str, Observer] = {}
        self._current: _Loop | None = _Loop(options)
        self._closed = False

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
        migrate: bool = False,
    ) -> Generator[BlockingRuntime]:
        options = {
            "source": source,
            "arguments": arguments,
            "plugins": plugins,
            "clock": clock,
            "store": store,
            "transport": transport,
            "migrate": migrate,
        }
        opened = cls(options)
        try:
            yield opened
        finally:
            opened.close()

    def close(self) -> None:
        """Finish what is running and close; idempotent. A forked child closes only what it opened itself."""
        with self._lock:
            self._closed = True
            loop, self._current = self._current, None
        if loop is not None and loop.pid == os.getpid():
            loop.close()

    def _here(self) -> _Loop:
        loop = self._current
        if loop is not None and loop.pid == os.getpid():
            return loop
        if self._current is not None and self._lock.locked():
            self._lock = threading.Lock()  # held by a thread of the parent that does not exist here
        with self._lock:
            if self._closed:
                raise RuntimeError("this BlockingRuntime is closed")
            if self._current is None or self._current.pid != os.getpid():
                self._current = _Loop(self._options)
                for name, (events, handler) in self._handlers.items():
                    self._current.run(self._current.runtime.on(events, handler, name=name))
                for name, observer in self._observers.items():
                    self._current.runtime.observe(observer, name=name)
            return self._current

    def _run(
        self, call: Callable[Concatenate[Runtime, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        loop = self._here()
        return loop.run(call(loop.runtime, *args, **kwargs))

    # --- connecting ------------------------------------------------------------------------------------------------

    def connect(
        self,
        provider_id: str,
        *,
        scope: Scope,
        redirect_uri: str | None = None,
        grants: Iterable[str] = (),
        auth: str | None = None,
        connection_id: str | None = None,
        return_to: str | None = None,
    ) -> ConnectStart:
        return self._run(
            Runtime.connect,
            provider_id,
            scope=scope,
            redirect_uri=redirect_uri,
            grants=grants,
            auth=auth,
            connection_id=connection_id,
            return_to=return_to,
        )

    def complete(
        self, params: str | Mapping[str, str] | Iterable[tuple[str, str]], *, binding: SecretStr | str
    ) -> Connection:
        return self._run(Runtime.complete, params, binding=binding)

    def establish(
        self, provider_id: str, *, scope: Scope, fields: Mapping[str, SecretStr | str], auth: str | None = None
    ) -> Connection:
        return self._run(Runtime.establish, provider_id, scope=scope, fields=fields, auth=auth)

    def refresh(self, connection_id: str) -> Connection:
        return self._run(Runtime.refresh, connection_id)

    def disconnect(self, connection_id: str, *, reason: str = "") -> Disconnected:
        return self._run(Runtime.disconnect, connection_id, reason=reason)

    # --- using -----------------------------------------------------------------------------------------------------

    def execute(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        deadline: float | None = None,
    ) -> OperationResult:
        return self._run(
            Runtime.execute, connection_id, operation, params, idempotency_key=idempotency_key, deadline=deadline
        )

    def paginate(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[Any]:
        loop = self._here()
        pages = loop.runtime.paginate(connection_id, operation, params, limit=limit)

        async def advance() -> Any:
            return await anext(pages, _DONE)

        while (item := loop.run(advance())) is not _DONE:
            yield item

    def token(self, connection_id: str) -> SecretStr:
        return self._run(Runtime.token, connection_id)

    def sign(self, connection_id: str, request: HttpRequest) -> HttpRequest:
        return self._run(Runtime.sign, connection_id, request)

    def can(self, connection_id: str, capability: str) -> Decision:
        return self._run(Runtime.can, connection_id, capability)

    # --- looking ---------------------------------------------------------------------------------------------------

    def connection(self, connection_id: str) -> Connection:
        return self._run(Runtime.connection, connection_id)

    def connections(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Connection]:
        return self._run(
            Runtime.connections, provider_id=provider_id, scope=scope, status=status, after=after, limit=limit
        )

    def find(self, provider_id: str, scope: Scope) -> Connection:
        return self._run(Runtime.find, provider_id, scope)

    def providers(self) -> Mapping[str, ProviderInstance]:
        return self._here().runtime.providers()

    def catalog(self) -> Catalog:
        return self._here().runtime.catalog()

    def store_status(self) -> StoreStatus:
        return self._run(Runtime.store_status)

    def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        return self._run(Runtime.migrate, dry_run=dry_run)

    def check_key(self) -> KeyRef:
        return self._run(Runtime.check_key)

    def health(self) -> list[tuple[str, Health]]:
        return self._run(Runtime.health)

    # --- events in and out -----------------------------------------------------------------------------------------

    def accept_webhook(
        self, provider_id: str, request: InboundRequest, *, connection_id: str | None = None
    ) -> Accepted:
        return self._run(Runtime.accept_webhook, provider_id, request, connection_id=connection_id)

    def on(self, events: str, handler: EventHandler, *, name: str) -> None:
        self._handlers[name] = (events, handler)
        self._run(Runtime.on, events, handler, name=name)

    def observe(self, observer: Observer, *, name: str) -> None:
        self._observers[name] = observer
        self._here().runtime.observe(observer, name=name)

    def drain(self) -> Drained:
        return self._run(Runtime.drain)

    def run_due(self, kind: str, limit: int = 50) -> int:
        return self._run(Runtime.run_due, kind, limit)
