"""What the repository promises of itself: one workspace, one release train, no addresses."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from go_services_core import __version__

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = sorted(path.parent for folder in ("plugins", "contrib") for path in (ROOT / folder).glob("*/pyproject.toml"))
NOT_SUBJECTS = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py", "manager.py", "base.py"}


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def modules(folder: Path) -> list[Path]:
    return [path.parent for path in folder.glob("go_services_*/__init__.py")]


def test_core_depends_on_three_distributions_only() -> None:
    names = [re.split(r"[<>=!~ ]", line)[0] for line in project(ROOT)["project"]["dependencies"]]
    assert sorted(names) == ["attrs", "click", "pluggy"]


def test_workspace_holds_every_plugin_and_bridge() -> None:
    assert project(ROOT)["tool"]["uv"]["workspace"]["members"] == ["plugins/*", "contrib/*"]
    known = {path.name for path in MEMBERS}
    assert {"transport-http", "store-sql", "store-sqlite", "envelope", "secrets-appkey", "github"} <= known


@pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)
def test_every_distribution_is_made_alike(member: Path) -> None:
    made = project(member)
    assert made["build-system"]["build-backend"] == "hatchling.build"
    if member.parent.name == "plugins":
        assert made["project"]["license"] == "MIT"
    assert made["project"]["requires-python"] == ">=3.11"
    assert (member / "README.md").is_file()
    assert list((member / "tests").glob("test_*.py"))
    (module,) = modules(member)
    assert (module / "py.typed").is_file()
    assert made["project"]["name"] == module.name.replace("_", "-")


@pytest.mark.parametrize("member", [path for path in MEMBERS if path.parent.name == "plugins"], ids=lambda p: p.name)
def test_every_plugin_carries_the_version_of_the_train_and_one_entry_point_at_most(member: Path) -> None:
    (module,) = modules(member)
    assert f'__version__ = "{__version__}"' in (module / "__init__.py").read_text()
    entries = project(member)["project"].get("entry-points", {})
    assert entries in ({}, {"go_services.plugins": {member.name: f"{module.name}.plugin"}})


@pytest.mark.parametrize("store", [path for path in MEMBERS if path.name in ("store-sqlite", "store-postgres")])
def test_stores_pin_their_shared_source_exactly(store: Path) -> None:
    assert f"go-services-store-sql=={__version__}" in project(store)["project"]["dependencies"]


def test_extras_install_what_exists() -> None:
    extras = project(ROOT)["project"]["optional-dependencies"]
    ours = {name for names in extras.values() for name in names if name.startswith("go-services-")}
    assert ours <= {project(member)["project"]["name"] for member in MEMBERS}
    assert set(extras["standard"]) == {
        "go-services-transport-http",
        "go-services-store-sqlite",
        "go-services-secrets-appkey",
    }


def test_constraints_are_versions_without_addresses_or_hashes() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 20
    for line in lines:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9a-z.+!]+( ; .+)?", line), line
        assert "://" not in line


def test_lock_files_with_addresses_are_not_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    files = tracked.stdout.splitlines()
    assert not [name for name in files if name.endswith("uv.lock")]
    for name in files:
        if name.endswith("package-lock.json"):
            assert '"resolved"' not in (ROOT / name).read_text()


def test_files_are_subjects() -> None:
    sources = [*(ROOT / "go_services_core").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    assert not [path for path in sources if path.name in NOT_SUBJECTS and ".venv" not in path.parts]


def test_only_the_command_and_the_sandbox_need_more_than_the_core_depends_on() -> None:
    heavy = re.compile(r"^(?:from|import) (aiohttp|peewee|cryptography|boto3|hvac|psycopg)\b", re.MULTILINE)
    guilty = {
        path.relative_to(ROOT / "go_services_core").parts[:2]
        for path in (ROOT / "go_services_core").rglob("*.py")
        if heavy.search(path.read_text())
    }
    assert guilty <= {("testing", "sandbox")}
