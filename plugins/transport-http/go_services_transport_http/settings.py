"""Settings of the HTTP transport."""

from __future__ import annotations

from pathlib import Path

from go_services_core.config.schema import setting, settings


@settings
class TransportSettings:
    """Limits that hold for every provider; a request may ask for other ``timeout`` and ``max_body``."""

    timeout: float = setting(
        default=30.0, help="Seconds for a whole exchange, from looking up the host to the last byte."
    )
    connect_timeout: float = setting(default=10.0, help="Seconds to connect to one address, TLS included.")
    max_body: int = setting(default=10 * 1024 * 1024, help="Largest answer in bytes, counted after decompression.")
    connections: int = setting(default=100, help="Connections open at once.")
    connections_per_host: int = setting(
        default=0, help="Connections open at once to one host and port; 0 is no such limit."
    )
    keepalive: float = setting(default=15.0, help="Seconds that an idle connection is kept.")
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
