"""What ``[store]`` may say for SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from go_services_core.config.schema import setting, settings
from go_services_core.errors import ConfigError

FORMS: Final = "Write `sqlite:///go-services.db` (relative) or `sqlite:////var/lib/app/go-services.db` (absolute)."


@settings
class SqliteSettings:
    """The ``[store]`` table."""

    url: str = setting(
        help="The database file: three slashes and a relative path, or four and an absolute one.",
        example="sqlite:///go-services.db",
    )
    busy_timeout: float = setting(default=5.0, help="Seconds to wait while another process writes.")
    max_batch: int = setting(default=256, help="Changes that share one commit at most.")


def database_path(url: str) -> Path:
    """The file that a ``sqlite:`` URL names, as an absolute path.

    Raises:
        ConfigError: the URL names no file.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or parts.query or parts.fragment or not url.startswith("sqlite:///"):
        raise ConfigError(f"{url!r} is not the URL of an SQLite file.", hint=FORMS, field="store.url")
    name = parts.path[1:]
    if name == ":memory:":
        raise ConfigError(
            "The store must survive the process, so `:memory:` is refused.",
            hint=f"{FORMS} Tests can use go_services_core.testing.memory.MemoryStore.",
            field="store.url",
        )
    if not name or name.endswith("/"):
        raise ConfigError(f"{url!r} names no file.", hint=FORMS, field="store.url")
    return Path(name).absolute()
