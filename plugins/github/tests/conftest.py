from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import go_services_github.plugin as github
import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Runtime, SecretStr
from go_services_core.config import Config
from go_services_core.plugins import PluginManager
from go_services_secrets_appkey.key import generate_key

_spec = importlib.util.spec_from_file_location("github_stand_in", Path(__file__).with_name("stand_in.py"))
assert _spec is not None
assert _spec.loader is not None
stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stand_in)


@pytest.fixture
def facts() -> Any:
    return stand_in


@pytest.fixture
async def server() -> AsyncIterator[Any]:
    async with stand_in.GitHubStandIn() as running:
        yield running


@pytest.fixture
async def runtime(server: Any, tmp_path: Path) -> AsyncIterator[Runtime]:
    """GitHub Enterprise as a second instance, beside the plugin's own github.com."""
    config = Config.load(
        None,
        environ={},
        arguments={
            "store.url": f"sqlite:///{tmp_path / 'github.db'}",
            "secrets.appkey.key": generate_key(),
            "egress.allow.ghe": [server.host],
            "providers.ghe.use": "github",
            "providers.ghe.base_url": server.base_url,
            "providers.ghe.client_id": stand_in.CLIENT_ID,
            "providers.ghe.client_secret": SecretStr(stand_in.CLIENT_SECRET),
            "providers.ghe.webhook_secrets": [SecretStr("It's a Secret to Everybody")],
        },
    )
    plugins = PluginManager.of({"github": github, "appkey": appkey, "sqlite": sqlite, "http": http})
    async with Runtime.open(config, plugins=plugins, migrate=True) as opened:
        yield opened
