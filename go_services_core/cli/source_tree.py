"""A plugin that lies in a folder and is not installed, made visible to discovery for the length of a block."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import PluginBroken
from ..hookspecs import GROUP


@contextmanager
def importable(folder: Path) -> Iterator[tuple[str, ...]]:
    """Give the ids of the plugins that ``folder/pyproject.toml`` declares; they can be discovered inside the block.

    The folder and a temporary ``.dist-info`` made from its project table stand first in ``sys.path``, and in
    ``PYTHONPATH`` for checks that start an interpreter of their own.

    Raises:
        PluginBroken: there is no readable pyproject.toml, or it declares no plugin.
    """
    name, version, plugins, readme = _declared(folder)
    with TemporaryDirectory(prefix="go-services-check-") as made:
        info = Path(made) / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"
        (info / "METADATA").write_text(head + readme, encoding="utf-8")
        lines = "".join(f"{plugin} = {module}\n" for plugin, module in plugins.items())
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}", encoding="utf-8")
        added = [str(folder.resolve()), made]
        before_path, before_env = sys.path[:], os.environ.get("PYTHONPATH")
        sys.path[:0] = added
        os.environ["PYTHONPATH"] = os.pathsep.join(added + ([before_env] if before_env else []))
        importlib.invalidate_caches()
        try:
            yield tuple(plugins)
        finally:
            sys.path[:] = before_path
            if before_env is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before_env
            importlib.invalidate_caches()


def _declared(folder: Path) -> tuple[str, str, dict[str, str], str]:
    """Name, version, plugins (id → module) and README of the project in ``folder``."""
    import tomllib

    path = folder / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
        readme = project.get("readme")
        text = (folder / readme).read_text(encoding="utf-8") if isinstance(readme, str) else ""
    except (OSError, ValueError) as error:
        raise PluginBroken(f"{path} cannot be read: {error}") from error
    plugins = project.get("entry-points", {}).get(GROUP, {})
    if not plugins:
        raise PluginBroken(
            f"{path} declares no plugin.", hint=f'Add [project.entry-points."{GROUP}"] with one line: id = "module".'
        )
    return str(project.get("name", folder.name)), str(project.get("version", "0")), plugins, text
