"""The reference page has a section for every command, with every option and argument."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from go_services_core.cli import exits
from go_services_core.cli.main import COMMANDS, main

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^#{2,3} (go-services[^\n]*)\n(.*?)(?=^#{2,3} |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def commands() -> Iterator[tuple[str, click.Command]]:
    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk(f"{path} {name}", inner)

    for name, (target, _) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        yield from walk(f"go-services {name}", getattr(import_module(module), attribute))


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert set(SECTIONS) == {path for path, _ in commands()}


def test_every_option_and_argument_is_documented() -> None:
    missing = []
    for path, command in commands():
        documented = set(re.findall(r"^\| `(--[a-z-]+)", SECTIONS[path], re.MULTILINE))
        actual = {param.opts[0] for param in command.params if isinstance(param, click.Option)}
        missing += [f"{path} {option}" for option in sorted(documented ^ actual)]
        for param in command.params:
            if isinstance(param, click.Argument) and param.make_metavar(click.Context(command)) not in SECTIONS[path]:
                missing.append(f"{path} {param.name}")
    assert not missing


def test_global_options_and_exit_codes_are_documented() -> None:
    for param in main.params:
        assert f"`{param.opts[0]}" in PAGE
    codes = {value for name, value in vars(exits).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == codes
