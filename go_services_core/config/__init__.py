"""Configuration: settings classes, layers and the origin of every value.

Only the settings classes are imported at once: plugin modules need them, and nothing else from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .schema import setting, settings

if TYPE_CHECKING:
    from .edit import set_value, unset_value
    from .layers import Config, ConfigValue
    from .report import Setting, check, describe
    from .secrets import resolver

_HOME = {
    "Config": "layers",
    "ConfigValue": "layers",
    "Setting": "report",
    "check": "report",
    "describe": "report",
    "resolver": "secrets",
    "set_value": "edit",
    "unset_value": "edit",
}

__all__ = [
    "Config",
    "ConfigValue",
    "Setting",
    "check",
    "describe",
    "resolver",
    "set_value",
    "setting",
    "settings",
    "unset_value",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
