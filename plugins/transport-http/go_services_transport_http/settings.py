"""Settings of the HTTP transport."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from go_services_core.config.schema import setting, settings
from go_services_core.secret import SecretStr


@settings
class TransportSettings:
    """Limits that hold for every provider; a request may ask for other ``timeout`` and ``max_body``."""

    timeout: float = setting(
        default=30.0, help="Seconds for a whole exchange, from looking up the host to the last byte."
    )
    connect_timeout: float = setting(default=10.0, help="Seconds to connect to one address, TLS included.")
    max_body: int = setting(default=10 * 1024 * 1024, help="Largest answer in bytes, counted after decompression.")
    max_expansion: float = setting(
        default=200.0,
        help="Times that a compressed answer may grow once it has more than 1 MiB; more is taken for an attack.",
    )
    connections: int = setting(default=100, help="Connections open at once.")
    connections_per_host: int = setting(
        default=0, help="Connections open at once to one host and port; 0 is no such limit."
    )
    keepalive: float = setting(default=15.0, help="Seconds that an idle connection is kept.")
    close_grace: float = setting(
        default=10.0, help="Seconds that requests under way may still take when the transport is closed; 0 cuts them."
    )
    identities: int = setting(
        default=64, help="Client certificates whose connections are kept; each has up to ``connections`` of its own."
    )
    identity_idle: float = setting(
        default=300.0, help="Seconds after which a client certificate that no request uses is let go of."
    )
    user_agent: str | None = setting(
        default=None,
        help="Sent where a request has no User-Agent. Without it nothing is added to a signed request.",
        example="acme-backend/1.0",
    )
    ca_file: Path | None = setting(
        default=None, help="PEM file of certificate authorities trusted beside the system's."
    )
    proxy: str | None = setting(
        default=None, help="HTTP proxy of every provider without one of its own.", example="http://proxy.corp:3128"
    )
    proxies: Mapping[str, str] = setting(
        default={}, help="Provider id, and its HTTP proxy instead of ``proxy``; ``none`` connects directly."
    )
    proxy_credentials: Mapping[str, SecretStr] = setting(
        default={}, help="host:port of a proxy, and the secret ``user:password`` that it wants.", secret=True
    )
