"""References to secrets: ``env:NAME``, ``file:PATH`` and what plugins add, such as ``vault://path#field``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ..catalog import Catalog
from ..clock import Clock, SystemClock
from ..errors import ConfigError, ServicesError
from ..secret import SecretStr
from .layers import Config

if TYPE_CHECKING:
    from ..protocols import SecretSource
    from ..specs import SecretSourceSpec

logger = logging.getLogger("go_services.config")

RETRY: Final = 30.0
"""Seconds before a source that failed is asked again while an earlier value is there."""


@frozen
class SourceSettings:
    """What the factory of a secret source gets as its settings."""

    folder: Path
    """What relative names of files are relative to."""
    environ: Mapping[str, str]
    settings: Any = None
    """The settings of the source's secret backend; None where the source names none."""


class SourcedSecret(SecretStr):
    """A secret that is kept elsewhere: read when it is first needed, and again when it is old or was refused.

    ``reveal`` gives the last value that was read; it reads, and blocks, only when there is none. Whoever has an event
    loop calls ``read`` in a thread beforehand, as the runtime does.
    """

    __slots__ = ("_clock", "_get", "_lock", "_reference", "_ttl", "_until")

    def __init__(self, reference: str, get: Callable[[], SecretStr], *, clock: Clock, ttl: float) -> None:
        super().__init__("")
        self._reference = reference
        self._get = get
        self._clock = clock
        self._ttl = ttl
        self._until: float | None = None
        self._lock = threading.Lock()

    @property
    def is_stale(self) -> bool:
        """Whether it was never read, or longer ago than its time to live."""
        return self._until is None or self._clock.monotonic() >= self._until

    @property
    def is_read(self) -> bool:
        """Whether there is a value."""
        return self._until is not None

    def reveal(self) -> str:
        """The last value that was read.

        Raises:
            ConfigError, BackendUnavailable, KeyDenied: there is none yet, and it cannot be read.
        """
        if self._until is None:
            self.read()
        return super().reveal()

    def read(self, *, again: bool = False) -> bool:
        """Read it from its source if it is stale, or in any case with ``again``; blocks. Gives whether it changed.

        A source that fails leaves the value that is there, for a while; the log tells.

        Raises:
            ConfigError, BackendUnavailable, KeyDenied: it cannot be read, and there is no earlier value.
        """
        asked = self._until
        with self._lock:
            if self._until != asked or not (again or self.is_stale):
                return False  # somebody else has just read it
            before, had = self._value, self._until is not None
            try:
                self._value = self._get().reveal()
            except ServicesError as error:
                if not had:
                    raise
                logger.warning("the secret %s cannot be read again; its last value is used: %s", self._reference, error)
                self._until = self._clock.monotonic() + min(RETRY, self._ttl)
                return False
            self._until = self._clock.monotonic() + self._ttl
            return had and self._value != before

    def __bool__(self) -> bool:
        return True  # no source gives an empty secret


class Resolver:
    """Turns the text of a secret setting into the secret. Called with the text; made by :func:`resolver`."""

    def __init__(self, config: Config, catalog: Catalog, clock: Clock) -> None:
        self._config = config
        self._catalog = catalog
        self._clock = clock
        self._plaintext = bool(config.get("runtime.allow_plaintext_secrets"))
        self._ttl = _ttl(config)
        self._sources: dict[str, SecretSource] = {}
        self._lock = threading.RLock()  # a source's own settings are references too
        self._known: dict[str, SourcedSecret] = {}

    def __call__(self, text: str) -> SecretStr:
        """The secret that ``text`` refers to, or ``text`` itself where plain text is allowed.

        A secret on this machine is read at once, so that a missing one is told now; a remote one when it is needed.

        Raises:
            ConfigError: the reference leads to nothing, or ``text`` is no reference. It is never repeated.
        """
        scheme, colon, name = text.partition(":")
        if colon and scheme in self._catalog.secret_sources:
            return self._sourced(text, self._catalog.secret_sources[scheme], name)
        if self._plaintext:
            return SecretStr(text)
        known = ", ".join(f"{scheme}:…" for scheme in sorted(self._catalog.secret_sources)) or "none"
        raise ConfigError(
            f"must be a reference to a secret ({known}), not the secret itself.",
            hint="Put it into an environment variable and write 'env:NAME', or set runtime.allow_plaintext_secrets.",
        )

    def _sourced(self, text: str, spec: SecretSourceSpec, name: str) -> SourcedSecret:
        found = self._known.get(text)
        if found is None:
            found = SourcedSecret(text, lambda: self._source(spec).get(name), clock=self._clock, ttl=self._ttl)
            if not spec.remote:
                found.read()
            self._known[text] = found
        return found

    def _source(self, spec: SecretSourceSpec) -> SecretSource:
        with self._lock:
            found = self._sources.get(spec.scheme)
            if found is None:
                found = self._sources[spec.scheme] = self._made(spec)
            return found

    def _local(self, text: str) -> SecretStr:
        """As a call, for the settings of a source: to reach one, no other may be needed, nor itself."""
        scheme, colon, _ = text.partition(":")
        spec = self._catalog.secret_sources.get(scheme) if colon else None
        if spec is not None and spec.remote:
            raise ConfigError(
                f"refers to {scheme!r}, but these settings tell how to reach a source of secrets.",
                hint="Write an env: or file: reference.",
            )
        return self(text)

    def _made(self, spec: SecretSourceSpec) -> SecretSource:
        from ..protocols import PluginEnv

        settings = None
        if spec.backend is not None:
            backend = self._catalog.secret_backend(spec.backend)
            if backend.settings is not None:
                (settings,) = self._config.bind(f"secrets.{spec.backend}", backend.settings, resolve=self._local)
        env = PluginEnv(clock=self._clock, logger=logging.getLogger("go_services.secrets"), resolve_secret=self)
        return spec.factory.resolve()(SourceSettings(self._config.folder, self._config.environ, settings), env)


def _ttl(config: Config) -> float:
    """``[secrets] source_ttl``; whether it is a number is the report's to say."""
    try:
        return max(0.0, float(str(config.get("secrets.source_ttl", 300.0))))
    except ValueError:
        return 0.0


def resolver(config: Config, catalog: Catalog, *, clock: Clock | None = None) -> Resolver:
    """What turns references into secrets, by the secret sources of ``catalog``."""
    return Resolver(config, catalog, clock or SystemClock())
