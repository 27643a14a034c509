"""The threat model of the callback names tests, codes and kill points that exist, and leaves out none of the codes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from go_services_core import errors
from go_services_core.errors import ServicesError, StateInvalid

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/callback.md").read_text(encoding="utf-8")
TESTS = ROOT / "tests/runtime"


def constant(name: str, file: str) -> list[str]:
    """The keys of a dictionary that a test file defines."""
    for node in ast.parse((TESTS / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and ast.unparse(node.targets[0]) == name:
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    raise AssertionError(f"{file} has no {name}")


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`([\w/-]+\.py(?:::\w+)?)`", PAGE))))
def test_test_that_the_page_names_exists(named: str) -> None:
    file, _, name = named.partition("::")
    path = TESTS / file if "/" not in file else ROOT / file
    assert path.is_file()
    assert not name or f"def {name}(" in path.read_text(encoding="utf-8")


def test_every_attack_of_the_page_has_a_test() -> None:
    table = PAGE.partition("## Attacks")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"`[\w/-]*test_\w+\.py", row)] == []


def test_codes_of_the_page_are_codes_and_each_refusal_of_a_callback_has_one_of_its_own() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServicesError)]
    codes = {kind.code for kind in classes}
    shown = set(re.findall(r"`(SERVICE_\w+)`", PAGE))
    assert shown <= codes
    refusals = {kind.code for kind in classes if issubclass(kind, StateInvalid) and kind is not StateInvalid}
    assert len(refusals) == len([kind for kind in classes if issubclass(kind, StateInvalid)]) - 1
    assert refusals <= shown


def test_kill_points_of_the_page_are_those_of_the_test() -> None:
    table = PAGE.partition("## A process that dies")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    shown = [point for row in rows for point in re.findall(r"`([a-z-]+)`", row)]
    assert shown == constant("POINTS", "test_callback_kills.py")
