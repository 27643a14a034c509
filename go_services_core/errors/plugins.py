"""What is wrong with the configuration and with plugins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..live_secrets import masked
from .root import ServicesError


class ConfigError(ServicesError):
    """The configuration is not valid."""

    category = "validation"
    status = 400
    code = "SERVICE_BAD_INPUT"

    def __init__(self, message: str | None = None, *, problems: Iterable[str] = (), **details: Any) -> None:
        self.problems = tuple(masked(problem) for problem in problems)
        if message is None and self.problems:
            count = len(self.problems)
            message = f"The configuration has {count} problem{'s' if count > 1 else ''}:\n" + "\n".join(
                f"  - {problem}" for problem in self.problems
            )
        super().__init__(message, **details)


class PluginError(ServicesError):
    """A plugin cannot be used."""


class PluginConflict(PluginError):
    """Two plugins offer the same id."""


class PluginBroken(PluginError):
    """A plugin failed while it was loaded."""


class PluginIncompatible(PluginError):
    """A plugin was written for another major version of the contract."""
