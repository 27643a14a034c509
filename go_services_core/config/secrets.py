"""References to secrets: ``env:NAME``, ``file:PATH`` and what plugins add."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..catalog import Catalog
from ..errors import ConfigError
from ..secret import SecretStr
from .layers import Config

if TYPE_CHECKING:
    from ..protocols import SecretSource


@frozen
class SourceSettings:
    """What the factory of a secret source gets as its settings."""

    folder: Path
    """What relative names of files are relative to."""
    environ: Mapping[str, str]


class Resolver:
    """Turns the text of a secret setting into the secret. Called with the text; made by :func:`resolver`."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self._catalog = catalog
        self._plaintext = bool(config.get("runtime.allow_plaintext_secrets"))
        self._settings = SourceSettings(config.folder, config.environ)
        self._sources: dict[str, SecretSource] = {}

    def __call__(self, text: str) -> SecretStr:
        """The secret that ``text`` refers to, or ``text`` itself where plain text is allowed.

        Raises:
            ConfigError: the reference leads to nothing, or ``text`` is no reference. It is never repeated.
        """
        scheme, colon, name = text.partition(":")
        if colon and scheme in self._catalog.secret_sources:
            return self._source(scheme).get(name)
        if self._plaintext:
            return SecretStr(text)
        known = ", ".join(f"{scheme}:…" for scheme in sorted(self._catalog.secret_sources)) or "none"
        raise ConfigError(
            f"must be a reference to a secret ({known}), not the secret itself.",
            hint="Put it into an environment variable and write 'env:NAME', or set runtime.allow_plaintext_secrets.",
        )

    def _source(self, scheme: str) -> SecretSource:
        if scheme not in self._sources:
            self._sources[scheme] = self._catalog.secret_sources[scheme].factory.resolve()(self._settings, self._env())
        return self._sources[scheme]

    def _env(self) -> Any:
        import logging

        from ..clock import SystemClock
        from ..protocols import PluginEnv

        return PluginEnv(clock=SystemClock(), logger=logging.getLogger("go_services.secrets"), resolve_secret=self)


def resolver(config: Config, catalog: Catalog) -> Resolver:
    """What turns references into secrets, by the secret sources of ``catalog``."""
    return Resolver(config, catalog)
