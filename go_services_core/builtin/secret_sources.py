"""The secret sources that every installation has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..secret import SecretStr

if TYPE_CHECKING:
    from ..config.secrets import SourceSettings
    from ..protocols import PluginEnv

MAX_BYTES = 1 << 20
"""Nobody's secret is larger; a device or a mistaken path would be."""


class EnvironmentSource:
    """``env:NAME``: an environment variable."""

    def __init__(self, settings: SourceSettings, env: PluginEnv) -> None:
        self._environ = settings.environ

    def get(self, name: str) -> SecretStr:
        """The variable's value.

        Raises:
            ConfigError: it is not set, or empty.
        """
        value = self._environ.get(name)
        if not value:
            state = "is not set" if value is None else "is empty"
            raise ConfigError(f"the environment variable {name} {state}.")
        return SecretStr(value)


class FileSource:
    """``file:PATH``: the content of a file in UTF-8, without the line break at its end."""

    def __init__(self, settings: SourceSettings, env: PluginEnv) -> None:
        self._folder = settings.folder

    def get(self, name: str) -> SecretStr:
        """The file's content; a relative path is relative to the configuration file.

        Raises:
            ConfigError: it cannot be read, is empty, not text, or over one MiB.
        """
        path = self._folder / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            text = data.decode("utf-8")
        except OSError as error:
            raise ConfigError(f"the file {path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError:
            raise ConfigError(f"the file {path} is not text in UTF-8.") from None
        if len(data) > MAX_BYTES:
            raise ConfigError(f"the file {path} is over one MiB, which no secret is.")
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise ConfigError(f"the file {path} is empty.")
        return SecretStr(text)
