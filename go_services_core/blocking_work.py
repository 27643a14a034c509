"""The blocking face's worker and surfaces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from .runtime.runtime import Runtime
from .worker_status import Worked, WorkerStatus

if TYPE_CHECKING:
    import asyncio

    from .blocking import _Loop
    from .handler_protocols import InboundHandler
    from .http import HttpResponse, InboundRequest
    from .specs import SurfaceName

T = TypeVar("T")


class BlockingWork:
    """Part of ``BlockingRuntime``."""

    _surfaces: dict[tuple[SurfaceName, str | None], InboundHandler]

    if TYPE_CHECKING:

        def _in_use(self) -> AbstractContextManager[_Loop]: ...

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def work(
        self,
        *,
        kinds: Iterable[str] | None = None,
        stop: asyncio.Event | threading.Event | None = None,
        ready: Callable[[], object] | None = None,
    ) -> Worked:
        """``stop`` is a ``threading.Event``. Ctrl-C stops it as well; a second one does not wait for what runs.

        Do not fork meanwhile: a fork waits for every call to end.
        """
        ending = threading.Event() if stop is None else stop
        ended = threading.Event()

        async def work(runtime: Runtime) -> Worked:
            try:
                return await runtime.work(kinds=kinds, stop=ending, ready=ready)
            finally:
                ended.set()

        try:
            return self._run(work)
        except KeyboardInterrupt:
            ending.set()
            ended.wait()
            raise

    def receive(
        self,
        surface: SurfaceName,
        provider_id: str,
        request: InboundRequest,
        *,
        connection_id: str | None = None,
    ) -> HttpResponse:
        return self._run(Runtime.receive, surface, provider_id, request, connection_id=connection_id)

    def on_request(self, surface: SurfaceName, provider_id: str | None, handler: InboundHandler) -> None:
        self._run(Runtime.on_request, surface, provider_id, handler)
        self._surfaces[surface, provider_id] = handler

    def worker_status(self) -> WorkerStatus:
        return self._run(Runtime.worker_status)
