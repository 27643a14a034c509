"""What ``go_services_core`` exports: all of it resolves, nothing else does, and importing it costs nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import go_services_core

HEAVY = {
    "aiohttp",
    "asyncio",
    "attr",
    "attrs",
    "click",
    "cryptography",
    "json",
    "logging",
    "peewee",
    "pluggy",
    "typing",
}


def fresh(code: str) -> str:
    """The output of ``code`` in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, timeout=60, cwd=Path.cwd()
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", go_services_core.__all__)
def test_every_name_resolves_and_stays(name: str) -> None:
    found = getattr(go_services_core, name)
    assert found is not None
    assert getattr(go_services_core, name) is found
    if isinstance(found, type) or callable(found):
        assert getattr(found, "__name__", name) == name or name == "hookimpl"


def test_names_are_listed_once_and_in_order() -> None:
    """Constants, then classes, then the rest."""

    def rank(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

    assert list(go_services_core.__all__) == sorted(set(go_services_core.__all__), key=rank)


def test_what_type_checkers_see_is_what_is_exported() -> None:
    source = Path(go_services_core.__file__).read_text(encoding="utf-8")
    blocks = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    (block,) = blocks
    seen = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert set(seen) == set(go_services_core.__all__)
    for name, module in seen.items():
        home: Any = __import__(f"go_services_core.{module}", fromlist=["x"])
        assert getattr(home, "VERSION" if name == "__version__" else name) is getattr(go_services_core, name)


def test_a_star_import_gives_exactly_the_public_names() -> None:
    got = fresh(
        "names = {}\nexec('from go_services_core import *', names)\nprint(*sorted(set(names) - {'__builtins__'}))"
    )
    assert set(got.split()) == set(go_services_core.__all__)


def test_dir_shows_the_public_names() -> None:
    assert set(dir(go_services_core)) == set(go_services_core.__all__)


def test_another_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match=r"module 'go_services_core' has no attribute 'Runtimes'"):
        _ = go_services_core.Runtimes


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = set(fresh("import sys, go_services_core; print(*sys.modules)").split())
    assert len(loaded) <= 60
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("go_services_core")} == {"go_services_core"}


def test_one_name_loads_its_own_module_and_not_the_runtime() -> None:
    loaded = set(fresh("import sys; from go_services_core import SecretStr; print(*sys.modules)").split())
    assert "go_services_core.secret" in loaded
    assert not {name for name in loaded if name.startswith(("go_services_core.runtime", "attr", "click", "aiohttp"))}


@pytest.mark.parametrize("name", ["ProviderSpec", "hookimpl", "settings", "Ref"])
def test_what_a_plugin_module_needs_is_light(name: str) -> None:
    loaded = set(fresh(f"import sys; from go_services_core import {name}; print(*sys.modules)").split())
    assert not loaded & {"aiohttp", "asyncio", "click", "cryptography", "peewee", "go_services_core.runtime.runtime"}
