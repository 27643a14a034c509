"""HTTP proxies: which one serves a provider, and what may be handed over to it.

A proxy is the operator's own and outside the guard; the target stays inside. Its name is looked up here before the
proxy is asked: one with an address that is not public is refused. The proxy looks it up once more, and what it then
finds is for its own rules. So is a name that only the proxy can resolve.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver
from attrs import frozen
from yarl import URL

from go_services_core.errors import ConfigError
from go_services_core.http import Headers
from go_services_core.secret import SecretStr

from .pools import NotPublic, PublicResolver
from .settings import TransportSettings

DIRECT: Final = "none"
"""Stands in ``[transport.proxies]`` for a provider that uses no proxy."""
_PORTS: Final = {"http": 80, "https": 443}
_AGE: Final = 10.0
"""Seconds that what a look-up brought is used; as long as aiohttp uses those of direct connections."""
_REMEMBERED: Final = 1024


@frozen
class Proxy:
    """A proxy, and who it knows the client as."""

    url: URL
    origin: str
    """``host:port``, for messages."""
    credentials: SecretStr | None
    """``user:password``."""

    @property
    def headers(self) -> Headers:
        """The header by which it knows the client (RFC 9110 §11.7.2, RFC 7617); never part of what is signed.

        Raises:
            ConfigError: the credentials have no colon.
        """
        if self.credentials is None:
            return ()
        known = self.credentials.reveal().encode()
        if b":" not in known:
            del known  # or a traceback with locals shows it
            raise ConfigError(
                f"proxy_credentials for {self.origin} are not of the form user:password.",
                field="proxy_credentials",
                plugin="transport-http",
            )
        return (("Proxy-Authorization", f"Basic {base64.b64encode(known).decode()}"),)


class Proxies:
    """The proxies of the settings, by provider."""

    def __init__(self, settings: TransportSettings) -> None:
        """Read them.

        Raises:
            ConfigError: a URL is not that of a proxy, or credentials are for none of them or cannot be used.
        """
        self._default = None if settings.proxy is None else _read(settings.proxy, settings.proxy_credentials, "proxy")
        self._own = {
            id: None if text == DIRECT else _read(text, settings.proxy_credentials, f"proxies.{id}")
            for id, text in settings.proxies.items()
        }
        used = {proxy.origin for proxy in (self._default, *self._own.values()) if proxy is not None}
        for origin in settings.proxy_credentials:
            if origin not in used:
                raise ConfigError(
                    f"proxy_credentials has an entry for {origin!r}, and no proxy is there.",
                    hint=f"Entries are named as the proxies, host:port: {', '.join(sorted(used)) or 'none is set'}.",
                    field="proxy_credentials",
                    plugin="transport-http",
                )

    def of(self, provider_id: str) -> Proxy | None:
        """The provider's proxy; None where it connects directly."""
        return self._own.get(provider_id, self._default)


class Targets:
    """Says of names that a proxy will resolve whether they may be handed over."""

    def __init__(self, resolver: Callable[[], AbstractResolver], now: Callable[[], float]) -> None:
        self._make = resolver
        self._resolver: PublicResolver | None = None
        self._now = now
        self._known: dict[str, tuple[float, str | None]] = {}

    async def require_public(self, host: str, port: int) -> None:
        """Refuse a name that has an address which is not public. One that does not resolve here is let through.

        Raises:
            NotPublic: it has one.
        """
        until, block = self._known.get(host, (0.0, None))
        now = self._now()
        if until <= now:
            block = await self._block(host, port)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[host] = (now + _AGE, block)
        if block is not None:
            raise NotPublic(block)

    async def _block(self, host: str, port: int) -> str | None:
        if self._resolver is None:
            self._resolver = PublicResolver(self._make())
        try:
            await self._resolver.resolve(host, port)
        except NotPublic as found:
            return found.block
        except OSError:
            return None
        return None

    async def aclose(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()


def _read(text: str, credentials: Mapping[str, SecretStr], field: str) -> Proxy:
    """One proxy. The text is not repeated: it may hold a password, which does not belong there."""
    parts = _parsed(text)
    if parts is None:
        raise ConfigError(
            f"transport.{field} is not the URL of a proxy.",
            hint=f"Write http://host:port or https://host:port{'' if field == 'proxy' else f', or {DIRECT!r}'}.",
            field=field,
            plugin="transport-http",
        )
    if "@" in parts.netloc:
        raise ConfigError(
            f"transport.{field} holds a user name or password.",
            hint="Put `user:password` as a secret into transport.proxy_credentials, under the proxy's host:port.",
            field=field,
            plugin="transport-http",
        )
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    origin = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Proxy(URL(f"{parts.scheme}://{origin}"), origin, credentials.get(origin))


def _parsed(text: str) -> SplitResult | None:
    """The parts of an http or https URL that has nothing but an origin; None for anything else."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in _PORTS and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return None if not usable or parts.path.strip("/") or parts.query or parts.fragment else parts
