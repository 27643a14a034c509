"""The tutorial, followed to the letter in a new environment, with the core installed from its wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from go_services_core.cli.new_plugin import new_package

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial" / "your-first-provider-plugin.md"
_MARK = "--- status"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def steps() -> list[tuple[str, list[str]]]:
    """Each command with the lines that the page shows below it; ``…`` stands for anything."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def words(text: str) -> str:
    return " ".join(text.split())


def test_code_in_the_tutorial_is_the_code_of_the_template() -> None:
    made = new_package("acme")
    assert blocks("python") == [made["go_services_acme/plugin.py"]]
    assert all(block.strip() in made["pyproject.toml"] for block in blocks("toml"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT],
        capture_output=True,
        text=True,
        timeout=240,
    )
    if built.returncode:
        if "No matching distribution found for hatchling" in built.stderr:
            pytest.skip("the build backend (hatchling) cannot be had from a package index here")
        pytest.fail(built.stderr)
    return folder


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_following_the_tutorial_ends_with_an_installed_proven_plugin(wheels: Path, tmp_path: Path) -> None:
    followed = steps()
    assert [command for command, _ in followed if command.startswith("go-services plugins check")]
    script = ["set -u"]
    for command, _ in followed:
        script += [command, f'printf "\\n{_MARK} %s\\n" $?']
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GO_SERVICES", "PYTHON"))}
    environ.pop("VIRTUAL_ENV", None)
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).resolve().parent), *os.defpath.split(os.pathsep)])
    environ["PIP_FIND_LINKS"] = " ".join([shlex.quote(str(wheels)), environ.get("PIP_FIND_LINKS", "")]).strip()
    environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], capture_output=True, text=True, timeout=540, cwd=tmp_path, env=environ
    )
    outputs = re.split(rf"^{_MARK} (\d+)$", done.stdout, flags=re.MULTILINE)
    for (command, expected), output, status in zip(followed, outputs[0::2], outputs[1::2], strict=False):
        assert status == "0", f"$ {command}\n{output}\n{done.stderr}"
        for line in expected:
            shown = re.escape(words(line)).replace("…", ".*?")
            assert re.search(shown, words(output)), f"$ {command}\nshould print {line!r} and prints:\n{output}"
    assert len(outputs) == 2 * len(followed) + 1
    package = tmp_path / "go-services-acme"
    assert {path: (package / path).read_text() for path in new_package("acme")} == new_package("acme")
