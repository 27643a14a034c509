"""A runtime without network or database, on a provider with one operation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
from go_services_core import ApiSpec, Operation, PersonalToken, ProviderSpec, Runtime, hookimpl
from go_services_core.config import Config
from go_services_core.plugins import PluginManager
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.transport import ScriptedTransport
from go_services_secrets_appkey.key import generate_key

Opening = Callable[..., AbstractAsyncContextManager[Runtime]]


class Acme:
    """The provider."""

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [
            ProviderSpec(
                id="acme",
                name="Acme",
                auth=PersonalToken(),
                api=ApiSpec(base_url="https://api.acme.example"),
                operations=(Operation("things.list", "GET", "/things"),),
            )
        ]


@pytest.fixture
def transport() -> ScriptedTransport:
    return ScriptedTransport()


@pytest.fixture
def opening(transport: ScriptedTransport) -> Opening:
    """Opens runtimes with the given plugins and settings."""

    def open(plugins: dict[str, Any], settings: dict[str, Any] | None = None) -> AbstractAsyncContextManager[Runtime]:
        config = Config.load(None, environ={}, arguments={"secrets.appkey.key": generate_key(), **(settings or {})})
        known = PluginManager.of({"acme": Acme(), "appkey": appkey, "sqlite": sqlite, **plugins})
        return Runtime.open(config, plugins=known, store=MemoryStore(), transport=transport)

    return open
