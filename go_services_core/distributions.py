# os.path instead of pathlib: several times faster, and this runs at every start.
# ruff: noqa: PTH208, PTH122, PTH123, PTH118
"""Which plugins are installed, read from the metadata on disk.

Only ``entry_points.txt`` of every distribution is opened, and the metadata of those that have a plugin. Nothing is
imported, and nobody's dependency pins are looked at: that is the installer's affair. ``importlib.metadata`` would do
the same three times slower, and is used only for archives on the path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence

from attrs import frozen

from .hookspecs import GROUP

_GROUP_BYTES = GROUP.encode()
_ID = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@frozen
class Entry:
    """One entry point of the group ``go_services.plugins``."""

    id: str
    module: str
    distribution: str
    version: str
    location: str
    problem: str | None = None
    """What is wrong with the metadata, if anything."""

    @property
    def origin(self) -> str:
        """Distribution, version and folder, for messages."""
        if not self.distribution:
            return "an object of the application"
        return f"{self.distribution} {self.version} ({self.location or 'the core itself'})"


@frozen
class _Distribution:
    name: str
    version: str
    location: str
    entry_points: str


def normalised(name: str) -> str:
    """The name of a distribution as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def scan(path: Sequence[str] | None = None) -> list[Entry]:
    """All plugins on ``path`` (``sys.path``), by id; the first of two distributions of one name hides the other.

    Two distributions that offer the same id are both listed.
    """
    entries = [
        entry for distribution in _distributions(sys.path if path is None else path) for entry in _entries(distribution)
    ]
    return sorted(entries, key=lambda entry: (entry.id, entry.distribution))


def _distributions(path: Sequence[str]) -> Iterator[_Distribution]:
    seen: set[str] = set()
    folders: set[str] = set()
    for folder in path:
        real = os.path.realpath(folder or ".")
        if real in folders:
            continue
        folders.add(real)
        try:
            names = sorted(os.listdir(real))
        except NotADirectoryError:
            yield from _in_archive(real, seen)
            continue
        except OSError:
            continue
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending not in {".dist-info", ".egg-info"} or name.startswith("~"):
                continue
            key = normalised(stem.partition("-")[0])
            if key in seen:
                continue
            seen.add(key)
            try:
                with open(os.path.join(real, name, "entry_points.txt"), "rb") as file:
                    data = file.read()
            except OSError:
                continue
            if _GROUP_BYTES in data:
                yield _described(os.path.join(real, name), stem, data.decode("utf-8", "replace"), real)


def _described(folder: str, stem: str, entry_points: str, location: str) -> _Distribution:
    """Name and version from the metadata's head; from the folder's name where that cannot be read."""
    name, _, version = stem.partition("-")
    for file_name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(folder, file_name), encoding="utf-8", errors="replace") as file:
                for line in file:
                    header, colon, value = line.partition(":")
                    if not colon:
                        break
                    if header.lower() == "name":
                        name = value.strip()
                    elif header.lower() == "version":
                        version = value.strip()
        except OSError:
            continue
        break
    return _Distribution(name.replace("_", "-"), version or "unknown", location, entry_points)


def _in_archive(location: str, seen: set[str]) -> Iterator[_Distribution]:
    from importlib import metadata

    for found in metadata.distributions(path=[location]):
        name = found.metadata["Name"]
        if not name or normalised(name) in seen:
            continue
        seen.add(normalised(name))
        text = found.read_text("entry_points.txt") or ""
        if GROUP in text:
            yield _Distribution(name, found.version, location, text)


def _entries(distribution: _Distribution) -> Iterator[Entry]:
    section = ""
    for number, raw in enumerate(distribution.entry_points.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            continue
        if section != GROUP:
            continue
        id, equals, value = (part.strip() for part in line.partition("="))
        module = value.partition("[")[0].strip()
        problem = None
        if not equals:
            problem = f"line {number} of its entry_points.txt does not read 'name = module'"
        elif not _ID.fullmatch(id):
            problem = f"the entry point's name {id!r} is not made of lower-case letters, digits, '-' and '_'"
        elif not _MODULE.fullmatch(module):
            problem = f"the entry point's value {value!r} is not the name of a module"
        yield Entry(id, module, distribution.name, distribution.version, distribution.location, problem)
