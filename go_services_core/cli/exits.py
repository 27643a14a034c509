"""What the exit code of ``go-services`` says; the only place where errors become exit codes."""

from __future__ import annotations

from typing import Final

from ..errors import BadInput, ConfigError, PluginError, PluginNotFound, ServicesError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CONFIGURATION: Final = 3
PLUGIN: Final = 4
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""


def exit_code(error: Exception) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, (PluginError, PluginNotFound)):
        return PLUGIN
    if isinstance(error, ConfigError):
        return CONFIGURATION
    if isinstance(error, BadInput):
        return USAGE
    if isinstance(error, (ServicesError, OSError)):
        return FAILED
    raise error
