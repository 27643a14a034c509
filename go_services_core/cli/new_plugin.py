"""A new provider package, written from the files in ``template/``."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Final

from .._version import VERSION
from ..errors import BadInput, Conflict

_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_SUFFIX: Final = ".tmpl"


def new_package(name: str) -> dict[str, str]:
    """The files of a provider package, by their path below its folder ``go-services-NAME``.

    The plugin id has hyphens (``acme-crm``), module and provider id have underscores (``acme_crm``).

    Raises:
        BadInput: the name cannot be a plugin's id.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be the name of a plugin.",
            hint="Use small letters, digits and single hyphens, beginning with a letter: acme-crm.",
            field="name",
        )
    plugin_id = name.replace("_", "-")
    provider_id = name.replace("-", "_")
    values = {
        "id": plugin_id,
        "provider": provider_id,
        "module": f"go_services_{provider_id}",
        "distribution": f"go-services-{plugin_id}",
        "constant": provider_id.upper(),
        "title": plugin_id.replace("-", " ").title(),
        "host": f"{plugin_id}.example",
        "core": ".".join(VERSION.split(".")[:2]),
    }
    made = {}
    for path, text in _templates(files(__package__) / "template", ""):
        made[path.replace("go_services_MODULE", values["module"])] = Template(text).substitute(values)
    return made


def _templates(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            found.append((prefix + entry.name.removesuffix(_SUFFIX), entry.read_text(encoding="utf-8")))
    return found


def write_package(made: dict[str, str], folder: Path) -> None:
    """Write the files into ``folder``, which must not exist yet or be empty.

    Raises:
        Conflict: the folder holds files; nothing was written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty.", hint="Choose another name, or another place with --dir.")
    for path, text in made.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
