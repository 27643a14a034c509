"""Whether a URL is on one of some hosts: what keeps credentials and learned addresses where a record allows them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
PLAIN_URL: Final = re.compile(r"[!-~]+")
"""What the URL of a request may be made of: printable ASCII, without spaces."""


def is_on_hosts(url: str, hosts: Iterable[str], *, plain_http: bool = False) -> bool:
    """Whether ``url`` has the host and port of one of ``hosts``, and is ``https``, or ``http`` where that is allowed.

    A host reads ``name`` or ``*.domain``, which does not match ``domain``, each with ``:port`` if it is not the
    scheme's own.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return False
    if "\\" in url or not PLAIN_URL.fullmatch(url) or "@" in parts.netloc or not host:
        return False
    if parts.scheme != "https" and not (parts.scheme == "http" and plain_http):
        return False
    for pattern in hosts:
        name, wanted = _host_and_port(pattern)
        if port != (wanted or DEFAULT_PORTS[parts.scheme]):
            continue
        if host == name or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
            return True
    return False


def host_of(url: str) -> str:
    """The host of a URL that can be parsed, as a pattern of :func:`is_on_hosts`."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else (parts.hostname or "")
    return (host if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}").lower()


def _host_and_port(pattern: str) -> tuple[str, int | None]:
    if pattern.startswith("["):
        host, _, rest = pattern[1:].partition("]")
        return host, int(rest[1:]) if rest.startswith(":") else None
    host, colon, port = pattern.partition(":")
    return host, int(port) if colon and port.isdigit() else None
