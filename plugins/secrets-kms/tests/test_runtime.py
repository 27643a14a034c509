"""A runtime over KMS, and settings out of Secrets Manager, both by the configuration file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import go_services_secrets_kms.plugin as kms
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ApiKey, ApiSpec, ProviderSpec, Runtime, Scope, hookimpl
from go_services_core.config import Config, resolver
from go_services_core.errors import BackendUnavailable, ConfigError, KeyDisabled
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore

from .conftest import HOME, Moto
from .kms_stub import ACCESS_KEY, SECRET_KEY, KmsStub, Refusal

ID = "11111111-2222-3333-4444-555555555555"
ENVIRON = {"KEY": ACCESS_KEY, "SECRET": SECRET_KEY}


class Keyed:
    GS_CONTRACT = 1

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [ProviderSpec(id="keyed", name="Keyed", auth=ApiKey(), api=ApiSpec(base_url="https://api.example"))]


class App:
    def __init__(self, folder: Path, home: KmsStub) -> None:
        self.clock = FrozenClock()
        self.store = MemoryStore(clock=self.clock)
        self.file = folder / "go-services.toml"
        self.url = home.url

    def open(self, more: str = "") -> Any:
        self.file.write_text(
            f'[secrets]\nbackend = "kms"\n{more}\n[secrets.kms]\nkey = "alias/app"\nregion = "{HOME}"\n'
            f'endpoint_url = "{self.url}"\naccess_key_id = "env:KEY"\nsecret_access_key = "env:SECRET"\nmax_attempts = 1\n'
        )
        return Runtime.open(
            Config.load(self.file, environ=ENVIRON),
            plugins=PluginManager.of({"kms": kms, "sqlite": sqlite, "http": http, "keyed": Keyed()}),
            clock=self.clock,
            store=self.store,
            migrate=True,
        )


@pytest.fixture
def app(tmp_path: Path, home: KmsStub) -> App:
    home.add_key(ID, alias="alias/app")
    return App(tmp_path, home)


async def connect(runtime: Any, who: str, key: str) -> Any:
    return (await runtime.establish("keyed", scope=Scope("user", who), fields={"key": key})).id


async def test_kms_is_asked_once_for_each_scope_and_life_of_a_data_key(app: App, home: KmsStub) -> None:
    async with app.open() as runtime:
        before = home.calls.copy()
        made = [await connect(runtime, f"u{at}", f"key {at}") for at in range(5)]
        for _ in range(20):
            for at, connection in enumerate(made):
                assert (await runtime.token(connection)).reveal() == f"key {at}"
        assert home.calls - before == Counter({"GenerateDataKey": 5})
    async with app.open() as runtime:
        before = home.calls.copy()
        for _ in range(20):
            for connection in made:
                await runtime.token(connection)
        assert home.calls - before == Counter({"Decrypt": 5})


async def test_disabled_key_stops_the_start_and_a_running_process_recovers(app: App, home: KmsStub) -> None:
    """P52"""
    key = home.keys[home.aliases["alias/app"]]
    async with app.open() as runtime:
        connection = await connect(runtime, "u1", "the key")
    key.state = "Disabled"
    with pytest.raises(KeyDisabled, match="alias/app"):
        async with app.open():
            pass
    key.state = "Enabled"
    home.always = Refusal(503, "ServiceUnavailable")
    with pytest.raises(BackendUnavailable):
        async with app.open():
            pass
    async with app.open('at_start = "lazy"') as runtime:
        with pytest.raises(BackendUnavailable):
            await runtime.token(connection)
        home.always = None
        app.clock.advance(60)
        assert (await runtime.token(connection)).reveal() == "the key"


def test_reference_in_settings_is_read_from_secrets_manager(moto: Moto, home: KmsStub) -> None:
    """``[secrets.kms]`` says how to get there, and needs no key for that."""
    kept = moto.client("secretsmanager").create_secret(Name="app/runtime", SecretString='{"client_secret": "kept"}')
    arguments = {
        "secrets.kms.region": HOME,
        "secrets.kms.secrets_manager_url": moto.url,
        "secrets.kms.access_key_id": "env:KEY",
        "secrets.kms.secret_access_key": "env:SECRET",
    }
    config = Config.load(None, environ=ENVIRON, arguments=arguments)
    clock = FrozenClock()
    resolve = resolver(config, PluginManager.of({"kms": kms}).catalog(), clock=clock)
    try:
        secret = resolve("aws-sm://app/runtime#client_secret")
        assert secret.reveal() == "kept"
        moto.client("secretsmanager").put_secret_value(SecretId=kept["ARN"], SecretString='{"client_secret": "new"}')
        assert secret.read() is False
        clock.advance(300)
        assert secret.read() is True
        assert secret.reveal() == "new"
        with pytest.raises(ConfigError, match="aws-sm://app/runtime#other"):
            resolve("aws-sm://app/runtime#other").reveal()
    finally:
        moto.client("secretsmanager").delete_secret(SecretId=kept["ARN"], ForceDeleteWithoutRecovery=True)
