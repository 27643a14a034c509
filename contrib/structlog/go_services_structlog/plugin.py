"""The plugin ``structlog``: log records become events while a runtime is open."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from go_services_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from go_services_core.runtime.runtime import Runtime

GS_CONTRACT = 1


@hookimpl
def gs_lifespan(runtime: Runtime) -> AbstractAsyncContextManager[None]:
    from .forwarding import forwarded

    return forwarded()
