"""Settings of the HTTP transport."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from go_services_core.config.schema import setting, settings
from go_services_core.errors import ConfigError
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


@settings
class StreamSettings:
    """``[transport.stream]``"""

    max_item: int = setting(default=1024 * 1024, help="Largest line or event in bytes.")
    idle_timeout: float = setting(default=60.0, help="Seconds without a byte after which a stream counts as cut.")
    reconnect_delay: float = setting(
        default=3.0, help="Seconds until a stream of events is opened again, where the server does not say."
    )


@settings
class SoapSettings:
    """``[transport.soap]``"""

    max_elements: int = setting(default=200_000, help="Most elements in an answer.")
    max_depth: int = setting(default=100, help="How deep the elements of an answer may stand in each other.")


@settings
class BulkSettings:
    """``[transport.bulk]``"""

    max_result: int = setting(default=100 * 1024 * 1024, help="Largest page of a result in bytes.")
    failures: int = setting(
        default=5, help="How often in a row the status of a job may fail to come before the call ends."
    )


@settings
class FileSettings:
    """``[transport.file]``"""

    chunk: int = setting(default=8 * 1024 * 1024, help="Bytes of a chunk of a resumable upload.")
    failures: int = setting(
        default=5, help="How often in a row a transfer may break off without getting further before the call ends."
    )
    retry_delay: float = setting(
        default=0.5, help="Seconds before a broken transfer goes on; they double with each failure in a row."
    )
    slowest: float = setting(
        default=65536.0,
        help="Bytes a second that a body is sent with at least: a request has the time that this takes.",
    )


def require_above_zero(record: object, *names: str) -> None:
    """Refuse settings that are not above 0.

    Raises:
        ConfigError: it names the first of them.
    """
    for name in names:
        if not getattr(record, name) > 0:
            raise ConfigError(f"{name} must be greater than 0.", field=name, plugin="transport-http")
