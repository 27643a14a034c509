"""A runtime over Vault, and settings out of its KV engine, both by the configuration file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import go_services_secrets_vault.plugin as plugin
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ApiKey, ApiSpec, ProviderSpec, Runtime, Scope, hookimpl
from go_services_core.config import Config, resolver
from go_services_core.errors import BackendUnavailable, ConfigError
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore

from .conftest import Vault

pytestmark = pytest.mark.integration


class Keyed:
    GS_CONTRACT = 1

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [ProviderSpec(id="keyed", name="Keyed", auth=ApiKey(), api=ApiSpec(base_url="https://api.example"))]


def config(vault: Vault, folder: Path, more: str = "") -> Config:
    file = folder / "go-services.toml"
    file.write_text(
        f'[secrets]\nbackend = "vault"\n{more}\n[secrets.vault]\naddress = "{vault.server.address}"\n'
        f'key = "{vault.key}"\ntoken = "env:TOKEN"\n'
    )
    return Config.load(file, environ={"TOKEN": vault.server.root_token})


def opened(source: Config, store: MemoryStore, clock: FrozenClock) -> Any:
    plugins = PluginManager.of({"vault": plugin, "sqlite": sqlite, "http": http, "keyed": Keyed()})
    return Runtime.open(source, plugins=plugins, clock=clock, store=store, migrate=True)


async def test_runtime_seals_with_vault_and_survives_a_sealed_server(vault: Vault, tmp_path: Path) -> None:
    """P52: with ``require`` nothing starts without the server; with ``lazy`` it starts, and recovers by itself."""
    clock = FrozenClock()
    store = MemoryStore(clock=clock)
    async with opened(config(vault, tmp_path), store, clock) as runtime:
        made = await runtime.establish("keyed", scope=Scope("user", "u1"), fields={"key": "the key"})
        assert (await runtime.token(made.id)).reveal() == "the key"
        assert (await runtime.check_key()).key_id == vault.key_id
    await asyncio.to_thread(vault.server.seal)
    try:
        with pytest.raises(BackendUnavailable, match="sealed"):
            async with opened(config(vault, tmp_path), store, clock):
                pass
        async with opened(config(vault, tmp_path, 'at_start = "lazy"'), store, clock) as runtime:
            with pytest.raises(BackendUnavailable, match="sealed"):
                await runtime.token(made.id)
            await asyncio.to_thread(vault.server.unseal)
            clock.advance(60)
            assert (await runtime.token(made.id)).reveal() == "the key"
    finally:
        await asyncio.to_thread(vault.server.unseal)


def test_reference_in_settings_is_read_from_the_kv_engine(vault: Vault, tmp_path: Path) -> None:
    """``[secrets.vault]`` says how to get there."""
    path, clock = f"app/{vault.key}", FrozenClock()
    resolve = resolver(config(vault, tmp_path), PluginManager.of({"vault": plugin}).catalog(), clock=clock)
    secret = resolve(f"vault://{path}#client_secret")
    with pytest.raises(ConfigError, match=f"vault://{path}#client_secret leads to no secret"):
        secret.reveal()
    vault.server.request("POST", f"secret/data/{path}", {"data": {"client_secret": "kept"}})
    assert secret.reveal() == "kept"
    vault.server.request("POST", f"secret/data/{path}", {"data": {"client_secret": "new"}})
    assert secret.reveal() == "kept"
    assert secret.read(again=True)  # type: ignore[attr-defined]
    assert secret.reveal() == "new"


def test_each_missing_setting_is_named_by_the_report(vault: Vault, tmp_path: Path) -> None:
    from go_services_core.config import check

    file = tmp_path / "go-services.toml"
    file.write_text(
        f'[secrets]\nbackend = "vault"\n[secrets.vault]\naddress = "{vault.server.address}"\nauth = "approle"\n'
    )
    problems = check(Config.load(file, environ={}), PluginManager.of({"vault": plugin, "sqlite": sqlite}).catalog())
    assert any("role_id and secret_id are not set" in problem and "secrets.vault" in problem for problem in problems)
