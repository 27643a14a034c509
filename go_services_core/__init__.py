"""The integration runtime for Python back ends.

The names here are the public ones; each is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost as much as everything else here
if TYPE_CHECKING:
    from typing import Any

    from ._version import VERSION as __version__  # noqa: N811
    from .auth_specs import ApiKey, Basic, ClientCredentials, DeviceCode, OAuth2Code, PersonalToken, TokenExchange
    from .blocking import BlockingRuntime
    from .clock import Clock, SystemClock
    from .config import setting, settings
    from .errors import ServicesError
    from .hookspecs import CONTRACT, hookimpl
    from .http import HttpRequest, HttpResponse, InboundRequest
    from .model import Connection, Credential, Event, OperationResult, Scope, TokenSet
    from .protocols import ProviderAdapter
    from .refs import Ref
    from .runtime.runtime import Runtime
    from .secret import SecretBytes, SecretStr
    from .specs import (
        ApiSpec,
        AuthStrategySpec,
        Capability,
        CommandSpec,
        EventHandlerSpec,
        HealthCheckSpec,
        Identity,
        JoseSpec,
        ObserverSpec,
        Operation,
        OperationPack,
        Pagination,
        Param,
        ProviderSpec,
        SecretBackendSpec,
        SecretSourceSpec,
        SignerSpec,
        StoreSpec,
        TransportSpec,
        WebhookSchemeSpec,
    )
    from .webhook_specs import Handshake, HmacWebhook, StandardWebhook, TokenWebhook

_HOMES = {
    "_version": ("__version__",),
    "auth_specs": (
        "ApiKey", "Basic", "ClientCredentials", "DeviceCode", "OAuth2Code", "PersonalToken", "TokenExchange",
    ),
    "blocking": ("BlockingRuntime",),
    "clock": ("Clock", "SystemClock"),
    "config.schema": ("setting", "settings"),
    "errors": ("ServicesError",),
    "hookspecs": ("CONTRACT", "hookimpl"),
    "http": ("HttpRequest", "HttpResponse", "InboundRequest"),
    "model": ("Connection", "Credential", "Event", "OperationResult", "Scope", "TokenSet"),
    "protocols": ("ProviderAdapter",),
    "refs": ("Ref",),
    "runtime.runtime": ("Runtime",),
    "secret": ("SecretBytes", "SecretStr"),
    "specs": (
        "ApiSpec", "AuthStrategySpec", "Capability", "CommandSpec", "EventHandlerSpec", "HealthCheckSpec",
        "Identity", "JoseSpec", "ObserverSpec", "Operation", "OperationPack", "Pagination", "Param",
        "ProviderSpec", "SecretBackendSpec", "SecretSourceSpec", "SignerSpec", "StoreSpec", "TransportSpec",
        "WebhookSchemeSpec",
    ),
    "webhook_specs": ("Handshake", "HmacWebhook", "StandardWebhook", "TokenWebhook"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CONTRACT",
    "ApiKey",
    "ApiSpec",
    "AuthStrategySpec",
    "Basic",
    "BlockingRuntime",
    "Capability",
    "ClientCredentials",
    "Clock",
    "CommandSpec",
    "Connection",
    "Credential",
    "DeviceCode",
    "Event",
    "EventHandlerSpec",
    "Handshake",
    "HealthCheckSpec",
    "HmacWebhook",
    "HttpRequest",
    "HttpResponse",
    "Identity",
    "InboundRequest",
    "JoseSpec",
    "OAuth2Code",
    "ObserverSpec",
    "Operation",
    "OperationPack",
    "OperationResult",
    "Pagination",
    "Param",
    "PersonalToken",
    "ProviderAdapter",
    "ProviderSpec",
    "Ref",
    "Runtime",
    "Scope",
    "SecretBackendSpec",
    "SecretBytes",
    "SecretSourceSpec",
    "SecretStr",
    "ServicesError",
    "SignerSpec",
    "StandardWebhook",
    "StoreSpec",
    "SystemClock",
    "TokenExchange",
    "TokenSet",
    "TokenWebhook",
    "TransportSpec",
    "WebhookSchemeSpec",
    "__version__",
    "hookimpl",
    "setting",
    "settings",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), "VERSION" if name == "__version__" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
