"""``plugins new``: the template, and the instance of it that is kept in the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from go_services_core.cli.new_plugin import new_package

from .conftest import Run

INSTANCE = Path(__file__).parents[2] / "contrib" / "template-provider"
_GENERATED = ("__pycache__", ".egg-info", "_cache")


def files_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(mark in part for part in path.parts for mark in _GENERATED)
    }


def test_committed_instance_is_what_the_template_gives() -> None:
    assert files_of(INSTANCE) == new_package("acme")


def test_new_writes_the_package_and_says_what_comes_next(run: Run, folder: Path) -> None:
    would = run("plugins", "new", "acme", "--dry-run").stdout
    assert "Would make go-services-acme with 6 files" in would
    assert not list(folder.iterdir())
    made = run("plugins", "new", "acme", "--dir", "plugins").stdout
    assert files_of(folder / "plugins" / "go-services-acme") == new_package("acme")
    assert 'pip install -e "plugins/go-services-acme[test]"' in made


def test_new_refuses_a_folder_that_holds_files(run: Run, folder: Path) -> None:
    target = folder / "go-services-acme"
    target.mkdir()
    (target / "mine.txt").write_text("kept")
    assert "is not empty" in run("plugins", "new", "acme", code=1).stderr
    assert files_of(target) == {"mine.txt": "kept"}


@pytest.mark.parametrize("name", ["Acme", "1acme", "ac me", "../acme", "acme-", "ac--me", "", "a/b"])
def test_new_refuses_a_name_that_cannot_be_an_id(run: Run, folder: Path, name: str) -> None:
    assert "small letters" in run("plugins", "new", name, code=2).stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["google-gmail", "google_gmail"])
def test_hyphens_are_for_the_plugin_and_underscores_for_the_provider(name: str) -> None:
    made = new_package(name)
    assert 'google-gmail = "go_services_google_gmail.plugin"' in made["pyproject.toml"]
    assert 'name = "go-services-google-gmail"' in made["pyproject.toml"]
    assert 'id="google_gmail"' in made["go_services_google_gmail/plugin.py"]
    assert not [path for path, text in made.items() if "$" in text.replace("$ ", "")]


def test_a_provider_is_about_forty_lines() -> None:
    made = new_package("acme")
    code = made["go_services_acme/plugin.py"] + made["pyproject.toml"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 50


def test_generated_code_is_formatted_and_typed(folder: Path, run: Run) -> None:
    run("plugins", "new", "acme")
    for check in (("ruff", "check", "--select", "E,F,I,UP"), ("ruff", "format", "--check"), ("mypy", "--strict")):
        tool = Path(sys.executable).with_name(check[0])
        done = subprocess.run(
            [tool, *check[1:], "."], capture_output=True, text=True, timeout=110, cwd=folder / "go-services-acme"
        )
        assert done.returncode == 0, done.stdout + done.stderr
