"""What ``[store]`` may say for PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from go_services_core.config.schema import setting, settings
from go_services_core.errors import ConfigError
from go_services_core.secret import SecretStr


@settings
class PostgresSettings:
    """The ``[store]`` table."""

    url: str = setting(
        help="The database, as libpq takes it; its parameters may stand after a question mark.",
        example="postgresql://app@db.example/app?sslmode=verify-full",
    )
    password: SecretStr | None = setting(
        default=None, help="The user's password, instead of one in the URL.", secret=True
    )
    pool_min: int = setting(default=1, help="Connections that are kept open.")
    pool_max: int = setting(default=10, help="Connections at most, for each process.")
    pool_timeout: float = setting(default=10.0, help="Seconds to wait for a connection.")
    statement_timeout: float = setting(default=30.0, help="Seconds to wait for a statement.")
    application_name: str = setting(default="go-services", help="How the server names the connections.")
    prepare: Literal["auto", "on", "off"] = setting(
        default="auto", help="Prepare statements on the server; auto does so unless a pooler stands in between."
    )
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = setting(
        default=None, help="Whether to use TLS, and what to check."
    )
    sslrootcert: Path | None = setting(default=None, help="Certificates that the server's may be issued by.")
    sslcert: Path | None = setting(default=None, help="Certificate that shows the server who connects.")
    sslkey: Path | None = setting(default=None, help="Private key of that certificate.")

    def check(self) -> None:
        """Refuse numbers that cannot work.

        Raises:
            ConfigError: naming the setting.
        """
        if not 0 <= self.pool_min <= self.pool_max or self.pool_max < 1:
            raise ConfigError(
                f"A pool of {self.pool_min} to {self.pool_max} connections cannot work.",
                hint="pool_min is at least 0, pool_max at least 1 and not below pool_min.",
                field="store.pool_max",
            )
        for name in ("pool_timeout", "statement_timeout"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"store.{name} is more than 0 seconds.", field=f"store.{name}")
