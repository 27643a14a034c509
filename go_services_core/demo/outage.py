"""The step ``backend-down``: a key service stops answering while it is needed, and comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..errors import BackendUnavailable
from ..model import Scope
from .key_service import KeyService, KeyServicePlugin
from .quiet import quiet

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime
    from ..sealing import SecretBackend
    from .steps import Stage

WHO = Scope("user", "outage")


async def outage(stage: Stage, require: Callable[[bool, str], None]) -> str:
    """Connect with the service up; then a process that has its data keys, one that has none, and one that must have.

    It works on a database of its own, whose keys are all at the service.
    """
    with TemporaryDirectory(dir=stage.files.folder) as folder, quiet("go_services", logging.ERROR):
        async with KeyService(_keys()) as service:

            def process(at_start: str) -> AbstractAsyncContextManager[Runtime]:
                return _process(stage, Path(folder) / "outage.db", service.url, at_start)

            async with process("require") as runtime:
                start = await runtime.connect("sandbox", scope=WHO, redirect_uri="http://127.0.0.1/callback")
                connection = await runtime.complete(await stage.sandbox.consent(start.url), binding=start.binding)
                await service.stop()
                await runtime.execute(connection.id, "items.list", {"per_page": 1})
                async with process("lazy") as other:
                    require(await _fails(other, connection.id), "a call went out without its credential's key")
                    require((await other.connection(connection.id)).status == "active", "the outage ended a connection")
                    require(await _is_refused(process("require")), "a process that must have its keys started without")
                    await service.start()
                    await other.execute(connection.id, "items.list", {"per_page": 1})
                await runtime.disconnect(connection.id, reason="end of the demo")
    return "who knew the data key went on, others failed typed and recovered by themselves; no connection was lost"


def _keys() -> SecretBackend:
    from go_services_secrets_appkey.backend import open_backend
    from go_services_secrets_appkey.key import generate_key
    from go_services_secrets_appkey.settings import AppKeySettings

    from ..clock import SystemClock
    from ..protocols import PluginEnv
    from ..secret import SecretStr

    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("go_services.demo"), resolve_secret=SecretStr)
    return open_backend(AppKeySettings(key=generate_key()), env)


def _process(stage: Stage, database: Path, url: str, at_start: str) -> AbstractAsyncContextManager[Runtime]:
    import go_services_secrets_appkey.plugin as appkey
    import go_services_store_sqlite.plugin as sqlite
    import go_services_transport_http.plugin as http

    from ..config import Config
    from ..plugins import PluginManager
    from ..runtime.runtime import Runtime

    plugins = {
        "secrets-appkey": appkey,
        "store-sqlite": sqlite,
        "transport-http": http,
        "key-service": KeyServicePlugin(),
    }
    arguments = {
        "store.url": f"sqlite:///{database}",
        "secrets.backend": "key-service",
        "secrets.at_start": at_start,
        "secrets.key-service.url": url,
    }
    config = Config.load(stage.files.config, arguments=arguments)
    return Runtime.open(config, plugins=PluginManager.of(plugins), migrate=True)


async def _fails(runtime: Runtime, connection_id: str) -> bool:
    try:
        await runtime.execute(connection_id, "items.list", {"per_page": 1})
    except BackendUnavailable:
        return True
    return False


async def _is_refused(opening: AbstractAsyncContextManager[Runtime]) -> bool:
    try:
        async with opening:
            return False
    except BackendUnavailable:
        return True
