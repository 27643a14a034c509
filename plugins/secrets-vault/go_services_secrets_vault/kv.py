"""The secret source ``vault://PATH#FIELD``: secrets of settings in the KV engine, version 2."""

from __future__ import annotations

from typing import Final

from go_services_core.config.secrets import SourceSettings
from go_services_core.errors import ConfigError, KeyDenied
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr

from .failures import Refused
from .session import Session
from .settings import PLUGIN

FORM: Final = "Write vault://PATH#FIELD; PATH is what follows the mount of the KV engine (secrets.vault.kv_mount)."


class VaultSource:
    """Reads the newest version of a secret, each time it is asked."""

    def __init__(self, settings: SourceSettings, env: PluginEnv) -> None:
        """Read from the server of ``[secrets.vault]``; ``key`` is not needed for this."""
        self._mount: str = settings.settings.kv_mount
        self._session = Session(settings.settings, env)

    def get(self, name: str) -> SecretStr:
        """A field of a secret; blocks.

        Args:
            name: ``//PATH#FIELD``. The field may be left out where the secret has exactly one. No character is decoded.

        Raises:
            ConfigError: the reference is not of this form, or nothing of that name is there, or it is not text.
            KeyDenied: the token may not read it.
            BackendUnavailable: the server does not answer.
        """
        path, mark, wanted = name.removeprefix("//").partition("#")
        parts = path.split("/")
        if not name.startswith("//") or any(part.strip() in ("", ".", "..") for part in parts) or (mark and not wanted):
            raise ConfigError(f"vault:{name} is not the name of a secret.", hint=FORM, plugin=PLUGIN)
        mount = self._mount
        try:
            fields = self._session.call(lambda at: at.read_secret(mount, path))
        except Refused as refused:
            if refused.status == 403:
                raise KeyDenied(
                    f"Vault does not allow this process to read vault:{name}.",
                    hint=f'Its policy must allow "read" on {mount}/data/{path}; or its token has ended.',
                    plugin=PLUGIN,
                ) from None
            raise ConfigError(
                f"vault:{name} leads to no secret below {mount}.",
                hint=f"Write it with `bao kv put -mount={mount} {path} FIELD=-`, or look at kv_mount and namespace.",
                plugin=PLUGIN,
            ) from None
        if not mark and len(fields) != 1:
            raise ConfigError(f"vault:{name} has {len(fields)} fields; name one of them.", hint=FORM, plugin=PLUGIN)
        value = fields.get(wanted) if mark else next(iter(fields.values()))
        if not isinstance(value, str) or not value:
            state = "has no such field" if value is None else "is empty" if value == "" else "is not text"
            raise ConfigError(f"vault:{name} {state}.", hint=FORM, plugin=PLUGIN)
        return SecretStr(value)
