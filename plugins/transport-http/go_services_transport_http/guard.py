"""The egress guard: may this provider reach this URL?

Without an allowance a provider reaches only public addresses over https. An allowance names one ``host:port`` for one
provider; it lets that provider through to it whatever the address and also over plain http.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

from attrs import frozen

from go_services_core.errors import ConfigError, EgressDenied

from .addresses import IPAddress, parse_host, special_name, special_purpose

Pool: TypeAlias = Literal["public", "allowed", "proxied"]
"""Connections of the pool ``public`` lead only to public addresses; those of ``allowed`` were made under an allowance,
those of ``proxied`` lead to a proxy of the settings. A request is checked before it takes a connection from any of
them, so that no provider can borrow another's."""

_ENTRY: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>\*|[0-9]{1,5})")
_Entry: TypeAlias = tuple[IPAddress | str, int | None]


@frozen
class Route:
    """A checked origin: which pool serves it, and ``host:port`` for messages."""

    pool: Pool
    origin: str
    literal: bool = False
    """Whether the host is an address, so that nobody looks it up."""


def parse_entry(text: str) -> _Entry:
    """Read one allowance: ``host:port``, ``host:*`` or ``[address]:port``.

    Raises:
        ValueError: it is none of these; the message is the reason.
    """
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError("is not host:port, host:* or [address]:port")
    try:
        host = parse_host(match["v6"] if match["v6"] is not None else match["host"])
    except ValueError as reason:
        raise ValueError(f"cannot be used: {reason}") from None
    if match["v6"] is not None and isinstance(host, str):
        raise ValueError("has a name in brackets")
    if match["port"] == "*":
        return host, None
    port = int(match["port"])
    if not 0 < port < 65536:
        raise ValueError("has a port outside 1 to 65535")
    return host, port


class Guard:
    """Decides by provider, scheme, host and port; knows the allowances, opens no connection."""

    def __init__(self, allow: Mapping[str, Iterable[str]]) -> None:
        """Read the allowances.

        Args:
            allow: provider id → entries, see ``parse_entry``.

        Raises:
            ConfigError: an entry cannot be read; every bad entry is named with its provider.
        """
        self._allow: dict[str, set[_Entry]] = {}
        problems = []
        for provider_id, entries in allow.items():
            known = self._allow.setdefault(provider_id, set())
            for entry in entries:
                try:
                    known.add(parse_entry(entry))
                except ValueError as reason:
                    problems.append(f"egress.allow.{provider_id}: {entry!r} {reason}")
        if problems:
            raise ConfigError(problems=problems, field="egress.allow", plugin="transport-http")

    def check(self, provider_id: str, scheme: str, host: str, port: int) -> Route:
        """The route for one origin. ``host`` is without brackets.

        Raises:
            EgressDenied: the host is ambiguous, the address is not public, or the scheme is not https, and no
                allowance says otherwise.
        """
        origin = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if scheme not in {"https", "http"}:
            raise denied(provider_id, origin, "it is neither http nor https", hint="Use an https URL.")
        try:
            target = parse_host(host)
        except ValueError as reason:
            raise denied(provider_id, origin, str(reason), hint="Write the host in its ordinary form.") from None
        entries = self._allow.get(provider_id, ())
        if (target, port) in entries or (target, None) in entries:
            return Route("allowed", origin)
        if scheme == "http":
            raise denied(provider_id, origin, "plain http is only for allowed hosts")
        if not isinstance(target, str) and (block := special_purpose(target)):
            raise denied(provider_id, origin, f"the address is not public ({block})")
        return Route("public", origin, literal=not isinstance(target, str))

    def check_name(self, provider_id: str, scheme: str, host: str, port: int) -> None:
        """As :meth:`check`, for a URL to which nothing is sent yet: names that never lead to a public address count.

        Raises:
            EgressDenied: as of :meth:`check`, or the name is one of those.
        """
        route = self.check(provider_id, scheme, host, port)
        if route.pool == "public" and not route.literal and (why := special_name(host.lower())):
            raise denied(provider_id, route.origin, f"the name is not public ({why})")


def denied(provider_id: str, origin: str, reason: str, *, hint: str | None = None) -> EgressDenied:
    """The refusal; without another ``hint`` it names the setting that would lift it."""
    allow = f'If that is intended, add "{origin}" to the setting egress.allow.{provider_id}.'
    return EgressDenied(f"Provider {provider_id} may not reach {origin}: {reason}.", hint=hint or allow)
