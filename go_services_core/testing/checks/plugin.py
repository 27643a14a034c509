"""Checks for a plugin as it is installed. The subject is the plugin's id."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

import attrs

from ...distributions import Entry, scan
from ...errors import PluginBroken
from ...hookspecs import CONTRACT
from ...plugins import PluginManager
from ...refs import Ref
from ..kit import Skipped, check

HEAVY: Final = frozenset(
    {"aiohttp", "asyncio", "boto3", "botocore", "cryptography", "hvac", "peewee", "psycopg", "requests"}
)
"""What a plugin module must not import, not even through something else."""
MAX_MODULES: Final = 40
"""How many modules a plugin module may import beyond the core's declarations."""

_DECLARATIONS: Final = (
    "go_services_core.specs",
    "go_services_core.hookspecs",
    "go_services_core.refs",
    "go_services_core.config.schema",
    "go_services_core.secret",
    "go_services_core._version",
)
_PROBE: Final = """
import importlib, json, sys
path, declarations, module = json.loads(sys.argv[1])
sys.path[:] = path
for name in declarations:
    importlib.import_module(name)
before = set(sys.modules)
importlib.import_module(module)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def _entry(id: str) -> Entry:
    entries = [entry for entry in scan() if entry.id == id]
    assert entries, f"no installed distribution has the entry point {id!r} in the group go_services.plugins"
    assert len(entries) == 1, f"{id!r} is there twice: {' and '.join(entry.origin for entry in entries)}"
    return entries[0]


@check("PLG-001", "plugin")
async def entry_point_is_usable(id: str) -> None:
    """Exactly one distribution has the entry point of that id; it is lower-case and names a module."""
    entry = _entry(id)
    assert entry.problem is None, entry.problem


@check("PLG-002", "plugin")
async def contract_is_stated(id: str) -> None:
    """The module says for which major of the contract it was written: ``GS_CONTRACT = 1``."""
    stated = getattr(import_module(_entry(id).module), "GS_CONTRACT", None)
    assert stated == CONTRACT, f"GS_CONTRACT is {stated!r}; this core has {CONTRACT}"


@check("PLG-003", "plugin")
async def import_is_light(id: str) -> None:
    """In a fresh interpreter the module imports nothing heavy and at most 40 modules beyond the core's declarations."""
    argument = json.dumps([_absolute(sys.path), _DECLARATIONS, _entry(id).module])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROBE,
        argument,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"importing it failed: {err.decode(errors='replace').strip()[-500:]}"
    imported: list[str] = json.loads(out.decode().splitlines()[-1])
    heavy = sorted(HEAVY & {name.partition(".")[0] for name in imported})
    assert not heavy, f"it imports {', '.join(heavy)}; put that behind a Ref"
    assert len(imported) <= MAX_MODULES, f"it imports {len(imported)} modules; at most {MAX_MODULES}"


def _absolute(path: list[str]) -> list[str]:
    return [str(Path(part).absolute()) for part in path]


def _offered(id: str) -> Mapping[str, tuple[Any, ...]]:
    return PluginManager(enabled=[_entry(id).id]).offered(id)


@check("PLG-004", "plugin")
async def hooks_return_records(id: str) -> None:
    """Every ``gs_`` name is a known, marked hook, and every collected one returns its records."""
    manager = PluginManager(enabled=[_entry(id).id])
    records = manager.offered(id)
    kinds = next(info.kinds for info in manager.plugins if info.id == id)
    assert kinds, "it implements no hook"
    empty = sorted(hook for hook, found in records.items() if not found)
    assert not empty, f"{', '.join(empty)} returned nothing"


@check("PLG-005", "plugin")
async def references_resolve(id: str) -> None:
    """Every ``Ref`` in its records can be imported with what the distribution installs."""
    failed = []
    for ref in _refs(list(_offered(id).values())):
        try:
            ref.resolve()
        except PluginBroken as error:
            failed.append(str(error))
    assert not failed, "; ".join(failed)


def _refs(value: Any) -> Iterator[Ref[Any]]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        yield from _refs(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _refs(item)
    elif attrs.has(type(value)):
        yield from _refs([getattr(value, field.name) for field in attrs.fields(type(value))])


@check("PLG-006", "plugin")
async def types_are_shipped(id: str) -> None:
    """The package has a ``py.typed`` (PEP 561)."""
    package = import_module(_entry(id).module.partition(".")[0])
    if package.__file__ is None or not hasattr(package, "__path__"):
        raise Skipped("the plugin is a single module, and PEP 561 marks packages")
    assert Path(package.__file__).with_name("py.typed").is_file(), f"there is no py.typed in {package.__name__}"


@check("PLG-007", "plugin", level="should")
async def readme_tells_how_to_use_it(id: str) -> None:
    """The distribution's description has sections on installation and configuration."""
    entry = _entry(id)
    found = metadata.distribution(entry.distribution).metadata
    text = found.get("Description") or str(found.get_payload() or "")  # type: ignore[attr-defined]
    headings = " ".join(re.findall(r"^#+ *(.+)$", text, re.MULTILINE)).lower()
    missing = [topic for topic in ("install", "configur") if topic not in headings]
    assert not missing, f"no heading in the README speaks of {' and '.join(missing)}"
