"""What one run of ``go-services`` works on: the configuration that was named, the plugins and the runtime behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from logging import LogRecord

    from ..blocking import BlockingRuntime
    from ..config import Config
    from ..plugins import PluginManager
    from ..protocols import Transport

DEFAULT_PATH: Final = Path("go-services.toml")


class Session:
    """Reads the configuration when a command asks for it, never before."""

    def __init__(self, named: Path | None = None) -> None:
        self.named = named

    @property
    def path(self) -> Path:
        """The file that commands write: the named one, or ``go-services.toml`` in the working directory."""
        return self.named or DEFAULT_PATH

    def config(self) -> Config:
        """The configuration. Without ``--config``, a missing default file leaves defaults and environment."""
        from ..config import Config

        return Config.load(self.named)

    def plugins(self, config: Config | None = None) -> PluginManager:
        """The plugins that the configuration chooses, loaded; raises what the runtime would raise."""
        from ..plugins import PluginManager

        manager = PluginManager.from_config(config or self.config())
        manager.load()
        return manager

    @contextmanager
    def runtime(
        self, *, wrap_transport: Callable[[Transport], Transport] | None = None, **arguments: Any
    ) -> Iterator[BlockingRuntime]:
        """The running runtime; closed when the block ends. ``arguments`` are settings, with __ for the dots."""
        import logging

        from ..blocking import BlockingRuntime
        from ..config import Config

        given = {name.replace("__", "."): value for name, value in arguments.items()}
        config = Config.load(self.named, arguments=given)
        if logging.lastResort is not None:
            logging.lastResort.addFilter(_says_something_new)
        with BlockingRuntime.open(config, wrap_transport=wrap_transport) as runtime:
            yield runtime


def _says_something_new(record: LogRecord) -> bool:
    """How the work of a command ended, the command says itself; other records are shown where no log is set up."""
    return not hasattr(record, "event_type")


pass_session = click.make_pass_decorator(Session, ensure=True)
