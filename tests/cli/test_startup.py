"""What starting costs: modules are counted in a clean interpreter, never times."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import go_services

PROBE = """
import sys
from go_services_core.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print()
print(" ".join(sorted(sys.modules)))
"""


def modules_after(*args: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()[-1].split()


def test_version_imports_at_most_130_modules_and_neither_attrs_nor_metadata() -> None:
    loaded = modules_after("--version")
    assert len(loaded) <= 130, loaded
    assert not {"attr", "attrs", "importlib.metadata", "pluggy", "asyncio", "json"} & set(loaded)


@pytest.mark.parametrize("group", ["plugins", "config", "connections", "store", "providers", "connect", "call"])
def test_help_of_a_command_loads_no_plugin_and_no_runtime(group: str) -> None:
    loaded = set(modules_after(group, "--help"))
    assert not {"pluggy", "asyncio", "go_services_core.plugins", "go_services_core.builtin.plugin"} & loaded
    assert not [name for name in loaded if name.startswith("go_services_core.runtime")]


def test_root_help_imports_no_command_of_the_core() -> None:
    loaded = set(modules_after("--help"))
    assert not {f"go_services_core.cli.{name}" for name in ("init", "plugins", "connect", "call", "doctor")} & loaded


def test_listing_plugins_without_loading_imports_none_of_them() -> None:
    loaded = modules_after("plugins", "list", "--no-load")
    assert "go_services_core.builtin.plugin" not in loaded
    assert not [name for name in loaded if name.startswith("go_services_") and not name.startswith("go_services_core")]


def test_installed_command_prints_the_version() -> None:
    from go_services_core import __version__

    done = go_services("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"go-services {__version__}\n", "")
