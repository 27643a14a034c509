"""Every installed plugin and what becomes of it, also when the configuration would refuse to start over one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from attrs import evolve, frozen

from ..catalog import Catalog
from ..config import Config
from ..errors import PluginConflict, PluginError
from ..plugins import PluginInfo, PluginManager


@frozen
class Survey:
    """What was found."""

    manager: PluginManager
    """Of the plugins that work."""
    plugins: tuple[PluginInfo, ...]
    """All of them, by id, with what became of each."""
    conflict: PluginError | None = None
    """Why the plugins that work cannot be used together: two offer the same id, and ``plugins.prefer`` is silent."""

    def catalog(self) -> Catalog:
        """What the plugins that work offer.

        Raises:
            PluginConflict: see ``conflict``.
        """
        if self.conflict is not None:
            raise self.conflict
        return self.manager.catalog()


def survey(config: Config, *, wanted: Collection[str] = ()) -> Survey:
    """Discover, load and collect.

    Plugins that are on ``plugins.enabled`` are treated like the others: one that is broken is listed, not raised.
    Those in ``wanted`` are loaded although the configuration leaves them out.
    """
    found = PluginManager.from_config(config).discover()
    skipped = {
        info.id: info
        for info in found
        if info.status == "broken" or (info.status == "disabled" and info.id not in wanted)
    }
    conflict = None
    with _silent():
        manager = _loaded(config, skipped)
        try:
            manager.catalog()
        except PluginConflict as error:
            conflict = error
        except PluginError as error:  # a plugin refuses the start
            if error.plugin is None or error.plugin in skipped:
                raise
            refusing = next(info for info in manager.plugins if info.id == error.plugin)
            skipped[error.plugin] = evolve(refusing, status="broken", error=error.message)
            manager = _loaded(config, skipped)
            manager.catalog()
    states = {info.id: info for info in manager.plugins} | skipped
    for name in config.get("plugins.enabled") or ():
        if name not in states:
            states[name] = PluginInfo(id=name, status="broken", error="It is in plugins.enabled and not installed.")
    return Survey(manager, tuple(states[id] for id in sorted(states)), conflict)


def _loaded(config: Config, skipped: Collection[str]) -> PluginManager:
    manager = PluginManager(disabled=skipped, prefer=config.get("plugins.prefer"))
    manager.load()
    return manager


@contextmanager
def _silent() -> Iterator[None]:
    """Without the warnings about plugins that are left out: the caller lists them."""
    logger = logging.getLogger("go_services.plugins")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
