"""Where a connection's credential may go."""

from __future__ import annotations

from ..errors import EgressDenied
from .core import Loaded


def require_host(loaded: Loaded, url: str) -> None:
    """Refuse a URL to which the connection's credential does not go.

    Raises:
        EgressDenied: it is on another host.
    """
    if not loaded.instance.allows(url):
        raise EgressDenied(
            f"A credential of {loaded.instance.id} goes only to its own hosts, and this URL is on another one.",
            plugin=loaded.instance.id,
            hint=f"Its hosts: {', '.join(loaded.instance.hosts) or 'none'}.",
        )
