"""Where to connect to: libpq's parameters from URL and settings, and a name for it that holds no password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from go_services_core.errors import ConfigError
from go_services_core.redaction import scrub
from go_services_core.secret import SecretStr

from .settings import PostgresSettings

FORM: Final = "Write `postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full`, with %XX for special characters."
DEFAULTS: Final[Mapping[str, str | int]] = {
    # Notice a peer that is gone without a word within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "client_encoding": "utf8",
}


@frozen
class Target:
    """A database server and how to log in."""

    shown: str
    """The URL without password and parameters."""
    conninfo: str = field(repr=False)
    password: SecretStr | None = None

    def clean(self, text: str) -> str:
        """One line of what libpq or the server said, without the password."""
        return scrub(" ".join(text.split()), [self.password])


def target_of(settings: PostgresSettings) -> Target:
    """The target that ``[store]`` describes. What is set on its own beats the URL.

    Raises:
        ConfigError: the URL cannot be read.
    """
    given: dict[str, Any]
    try:
        given = conninfo_to_dict(settings.url)
    except ProgrammingError:  # its text may quote a password
        given = {}
    if not given or not settings.url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("[store] url is not a URL that libpq can read.", hint=FORM, field="store.url") from None
    own = {
        "password": None if settings.password is None else settings.password.reveal(),
        **{name: getattr(settings, name) for name in ("sslmode", "sslrootcert", "sslcert", "sslkey")},
    }
    given = {
        **DEFAULTS,
        "application_name": settings.application_name,
        "connect_timeout": max(2, round(settings.pool_timeout)),  # libpq takes no less
        **given,
        **{name: str(value) for name, value in own.items() if value is not None},
    }
    password = given.get("password")
    return Target(
        shown=_shown(given),
        conninfo=make_conninfo("", **given),
        password=None if password is None else SecretStr(str(password)),
    )


def _shown(given: Mapping[str, Any]) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    hosts = str(given.get("host") or given.get("hostaddr") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    if len(ports) < len(hosts):
        ports = ports[:1] * len(hosts)
    places = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
    return f"postgresql://{user}{places}/{given.get('dbname') or ''}"
