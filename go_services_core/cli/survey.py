"""Every installed plugin and what becomes of it, also when the configuration would refuse to start over one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from attrs import evolve

from ..config import Config
from ..errors import PluginError
from ..plugins import PluginInfo, PluginManager


def survey(config: Config, *, wanted: Collection[str] = ()) -> tuple[PluginManager, tuple[PluginInfo, ...]]:
    """A manager of the plugins that work, and the state of all of them.

    Plugins that are on ``plugins.enabled`` are treated like the others: one that is broken is listed, not raised.
    Those in ``wanted`` are loaded although the configuration leaves them out.

    Raises:
        PluginConflict: two plugins offer the same id, and ``plugins.prefer`` does not choose.
    """
    found = PluginManager.from_config(config).discover()
    skipped = {
        info.id: info
        for info in found
        if info.status == "broken" or (info.status == "disabled" and info.id not in wanted)
    }
    manager = PluginManager(disabled=skipped, prefer=config.get("plugins.prefer"))
    with _silent():
        manager.load()
        try:
            manager.catalog()
        except PluginError as error:
            if error.plugin is None or error.plugin in skipped:
                raise
            skipped[error.plugin] = evolve(_named(manager, error.plugin), status="broken", error=error.message)
            manager = PluginManager(disabled=skipped, prefer=config.get("plugins.prefer"))
            manager.catalog()
    states = {info.id: info for info in manager.plugins} | skipped
    for name in config.get("plugins.enabled") or ():
        if name not in states:
            states[name] = PluginInfo(id=name, status="broken", error="It is in plugins.enabled and not installed.")
    return manager, tuple(states[id] for id in sorted(states))


def _named(manager: PluginManager, id: str) -> PluginInfo:
    return next(info for info in manager.plugins if info.id == id)


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
