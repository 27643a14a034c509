"""The backend as a configuration file sets it up, with the sources of secrets that everyone has."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import go_services_secrets_appkey.plugin as appkey
from go_services_core.config import Config, check, resolver
from go_services_core.errors import ConfigError, KeyInvalid
from go_services_core.plugins import PluginManager
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock
from go_services_envelope.policy import KeyWindow
from go_services_secrets_appkey.backend import AppKeyBackend, open_backend
from go_services_secrets_appkey.key import generate_key
from go_services_secrets_appkey.settings import AppKeySettings

BEGIN = '[secrets]\nbackend = "appkey"\n[secrets.appkey]\n'


class Application:
    """A folder with a configuration file, and the clock of its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FrozenClock()
        self.environ: dict[str, str] = {}

    def config(self, text: str) -> Config:
        (self.folder / "go-services.toml").write_text(BEGIN + text, encoding="utf-8")
        return Config.load(self.folder / "go-services.toml", environ=self.environ)

    def problems(self, text: str) -> list[str]:
        found = check(self.config(text), PluginManager.of({"secrets-appkey": appkey}).catalog())
        return [problem for problem in found if problem.startswith("secrets.")]

    def settings(self, text: str) -> tuple[AppKeySettings, Any]:
        config = self.config(text)
        resolve = resolver(config, PluginManager.of({"secrets-appkey": appkey}).catalog())
        (made,) = config.bind("secrets.appkey", AppKeySettings, resolve=resolve)
        return made, resolve

    def opened(self, text: str) -> AppKeyBackend:
        made, resolve = self.settings(text)
        env = PluginEnv(clock=self.clock, logger=logging.getLogger("test"), resolve_secret=resolve)
        return open_backend(made, env)


@pytest.fixture
def app(tmp_path: Path) -> Application:
    return Application(tmp_path)


async def test_keyring_and_its_references_are_relative_to_the_configuration_file(app: Application) -> None:
    (app.folder / "go-services.key").write_text(generate_key().reveal() + "\n", encoding="utf-8")
    (app.folder / "keys.toml").write_text('[[keys]]\nstate = "primary"\nfrom = "file:go-services.key"\n')
    (info,) = await app.opened('keyring = "keys.toml"\n').keys()
    assert info.detail == "keys.toml, from file:go-services.key"


async def test_reference_that_was_put_right_is_read_again_though_it_was_remembered(app: Application) -> None:
    """A setting's secret is remembered for minutes; a keyring's key is needed now."""
    key, other = generate_key().reveal(), generate_key().reveal()
    (app.folder / "app.key").write_text(key)
    (app.folder / "keys.toml").write_text('[[keys]]\nstate = "primary"\nfrom = "file:app.key"\n')
    (app.folder / "keys.toml").chmod(0o600)
    before = app.opened('keyring = "keys.toml"\n')
    await before.add_key()  # fills in the fingerprint

    backend = app.opened('keyring = "keys.toml"\n')
    (app.folder / "app.key").write_text(other)
    with pytest.raises(KeyInvalid, match="another key"):
        await backend.check()
    (app.folder / "app.key").write_text(key)
    app.clock.advance(1)
    assert await backend.check() == await before.check()


async def test_keys_come_from_the_environment_and_from_files(app: Application) -> None:
    """P52: what a shell or an editor put around a key is an error; only a file's last line break is not."""
    first, second = generate_key().reveal(), generate_key().reveal()
    app.environ["APP_KEY"] = first
    (app.folder / "old.key").write_text(second + "\n")
    text = 'key = "env:APP_KEY"\ndecrypt_only = ["file:old.key"]\n'
    assert [info.state for info in await app.opened(text).keys()] == ["primary", "decrypt-only"]
    app.environ["APP_KEY"] = first + "\n"
    with pytest.raises(KeyInvalid, match="line break"):
        app.opened(text)


def test_every_setting_is_read_from_the_file(app: Application) -> None:
    app.environ["GO_KEY"] = "go"
    made, _ = app.settings(
        'keyring = "keys.toml"\npassphrase_from = "env:P"\nwarn_days = 3.5\ngo_without_prefix = true\n'
        '[[secrets.appkey.windows]]\nkey = "app-key-1:2"\nencrypt_until = 2027-01-31T00:00:00Z\n'
        '[[secrets.appkey.go_keys]]\nid = "app-key"\nversion = 3\nmaterial = "env:GO_KEY"\n'
    )
    assert made.keyring == app.folder / "keys.toml"
    assert (made.passphrase_from, made.warn_days, made.go_without_prefix) == ("env:P", 3.5, True)
    assert made.windows == (KeyWindow(key="app-key-1:2", encrypt_until=datetime(2027, 1, 31, tzinfo=UTC)),)
    (key,) = made.go_keys
    assert (key.id, key.version) == ("app-key", 3)
    assert key.material == SecretStr("go")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('keyrings = "keys.toml"\n', "did you mean 'keyring'"),
        ('key = "gsk1_notareference"\n', "must be a reference"),
        ("keyring = 3\n", "a path as text"),
        ("warn_days = -1\n", "warn_days"),
        ('[[secrets.appkey.windows]]\nkey = "k"\nencrypt_until = 2027-01-31T00:00:00\n', "encrypt_until"),
    ],
)
def test_setting_that_cannot_be_used_is_a_problem_of_the_configuration(app: Application, text: str, words: str) -> None:
    (problem,) = app.problems(text)
    assert words in problem
    assert "gsk1_" not in problem


def test_nothing_configured_names_both_ways(app: Application) -> None:
    with pytest.raises(ConfigError, match=r"secrets\.appkey\.key.*secrets\.appkey\.keyring"):
        app.opened("")
