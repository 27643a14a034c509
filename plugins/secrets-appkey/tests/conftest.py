"""A keyring in a folder of its own, and references that lead somewhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from go_services_core.clock import Clock
from go_services_core.errors import ConfigError
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_core.testing.clock import FrozenClock
from go_services_secrets_appkey.backend import open_backend
from go_services_secrets_appkey.keyring_backend import KeyringBackend
from go_services_secrets_appkey.settings import AppKeySettings

PASSPHRASE = "unfold marble otter seventeen kiosk lantern"


class Ring:
    """Backends over one keyring, as so many processes; they share the secrets that references lead to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.toml"
        self.clock = FrozenClock()
        self.secrets = {"env:PASSPHRASE": PASSPHRASE}
        self.resolved: list[str] = []

    def resolve(self, reference: str) -> SecretStr:
        self.resolved.append(reference)
        if reference not in self.secrets:
            raise ConfigError(f"{reference} is not set.")
        return SecretStr(self.secrets[reference])

    def opened(self, *, clock: Clock | None = None, **settings: Any) -> KeyringBackend:
        env = PluginEnv(
            clock=clock or self.clock, logger=logging.getLogger("go_services.test"), resolve_secret=self.resolve
        )
        made = open_backend(AppKeySettings(keyring=self.path, **settings), env)
        assert isinstance(made, KeyringBackend)
        return made

    def write(self, text: str, *, mode: int = 0o600) -> None:
        """Replace the file as an editor that is careful does."""
        new = self.path.with_name("new")
        new.write_text(text, encoding="utf-8")
        new.chmod(mode)
        new.replace(self.path)

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)
