"""The reference pages have everything that they are a reference of."""

from __future__ import annotations

import ast
import logging
import re
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from attrs import evolve, fields

from go_services_core import Scope, errors
from go_services_core.cli.main import main
from go_services_core.config import describe
from go_services_core.config.roots import WorkerRoot
from go_services_core.delivery_specs import Schedule
from go_services_core.hookspecs import HookSpecs
from go_services_core.model import Observation
from go_services_core.plugins import PluginManager
from go_services_core.runtime import handlers, inbound, log_lines, observers
from go_services_core.runtime.runtime import Runtime
from go_services_core.runtime.spans import failure
from go_services_core.testing.kit import CHECKS, checks_of
from go_services_transport_http.settings import TransportSettings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
GENERATED = runpy.run_path(str(ROOT / "docs/generate.py"))["PAGES"]


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GENERATED)
def test_generated_page_is_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == GENERATED[name](), "run: python docs/generate.py"


def commands(group: click.Group, ctx: click.Context, above: str = "go-services") -> Iterator[tuple[str, click.Command]]:
    """Every built-in command below a group, by its full name."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, parent=ctx), f"{above} {name}")


def test_every_command_and_option_is_in_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page("commands.md")
    sections = dict(re.findall(r"^##+ (go-services [a-z -]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    found = dict(commands(main, click.Context(main)))
    assert len(found) > 20
    missing = [name for name in found if name not in sections]
    missing += [
        f"{name} {option}"
        for name, command in found.items()
        if name in sections
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--") and f"`{option}" not in sections[name]
    ]
    assert missing == []


def test_every_core_setting_is_in_the_reference() -> None:
    known = [setting.key for setting in describe(PluginManager.of({}).catalog())]
    assert len(known) > 15
    assert [key for key in known if f"| `{key}` |" not in page("configuration.md")] == []


def test_every_setting_of_a_plugin_is_in_its_readme() -> None:
    own = {setting.key for setting in describe(PluginManager.of({}).catalog())}
    missing = []
    for project in sorted([*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("contrib/*/pyproject.toml")]):
        found = re.search(r'plugins"\]\n([\w-]+) = "([\w.]+)"', project.read_text(encoding="utf-8"))
        if found is None:
            continue
        module = __import__(found[2], fromlist=["plugin"])
        readme = project.with_name("README.md").read_text(encoding="utf-8")
        for setting in describe(PluginManager.of({found[1]: module}).catalog()):
            name = setting.key.rpartition(".")[2]
            if setting.key not in own and not re.search(rf"\b{name}\b", readme):
                missing.append(f"{project.parent.name}: {setting.key}")
    assert missing == []


def test_every_error_is_in_the_reference_with_its_code() -> None:
    lines = [line.replace("&emsp;", "") for line in page("errors.md").splitlines()]
    rows = {cells[1].strip(" `"): cells for line in lines if (cells := line.split("|"))[1:]}
    for name, cls in vars(errors).items():
        if isinstance(cls, type) and issubclass(cls, errors.ServicesError):
            assert rows[name][2].strip() == str(cls.status)
            assert rows[name][3].strip(" `") == cls.code


def test_every_method_of_the_runtime_is_in_the_reference_subject_by_subject() -> None:
    methods = [name for cls in Runtime.__bases__ for name in vars(cls) if not name.startswith("_")]
    assert len(methods) > 40
    assert re.findall(r"^\.\. automethod:: Runtime\.(\w+)$", page("runtime.md"), re.MULTILINE) == methods


def emitted() -> dict[str, str]:
    """The names of all events and observations that the runtime makes → the file."""
    found = {}
    for path in sorted((ROOT / "go_services_core/runtime").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                named = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
                if call.func.id == "Span":
                    named = call.args[1:2]
                elif call.func.id not in ("Event", "Observation"):
                    continue
                for value in named:
                    found.update(dict.fromkeys(_texts(value), path.name))
    return found


def _texts(value: ast.expr) -> Iterator[str]:
    """The names that an expression may give; what is put in at run time reads ``<name>``."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from _texts(value.body)
        yield from _texts(value.orelse)
    elif isinstance(value, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "<name>" for part in value.values)


def test_every_event_and_observation_is_in_the_reference() -> None:
    names = emitted()
    assert {
        "connection.established",
        "connection.disconnected",
        "webhook.accepted",
        "webhook.duplicate",
        "webhook.rejected",
    } <= names.keys()
    assert {"operation", "attempt", "connect", "complete", "webhook.handle", "outbox", "job"} <= names.keys()
    assert [name for name in names if f"`{name}`" not in page("events.md").replace("webhook.*", "webhook.<name>")] == []


def test_every_field_of_observations_and_log_records_is_in_the_reference() -> None:
    text = page("events.md")
    scope, error = Scope("user", "u1"), errors.BadInput("wrong", field="f", metadata={"a": "b"})
    full = Observation(name="x", at=datetime.now(UTC), ok=False, duration_ms=1, scope=scope, **failure(error))
    logged = log_lines.fields(evolve(full, provider_id="p", connection_id="c", trace_id="t"), error, logging.ERROR)
    names = {*(field.name for field in fields(Observation)), *logged, *_details()}
    assert len(names) > 40
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def _details() -> set[str]:
    """What the runtime says in ``detail``: keywords of spans, and keys of the texts in the module on calls."""
    found = set()
    for path in sorted((ROOT / "go_services_core/runtime").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Span":
                found |= {keyword.arg for keyword in call.keywords if keyword.arg is not None}
        if path.name == "observed.py":
            keys = [key for one in ast.walk(tree) if isinstance(one, ast.Dict) for key in one.keys]
            found |= {key.value for key in keys if isinstance(key, ast.Constant)}
    return found - {"tracers", "loaded"}


def test_every_conformance_check_is_in_the_reference() -> None:
    for kind in ("plugin", "provider", "store", "secrets", "transport", "signer"):
        assert checks_of(kind)
    assert [check.id for check in CHECKS if f"| `{check.id}` |" not in page("conformance.md")] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reference/events.md", f"after {Schedule().attempts} attempts"),
        ("how-to/write-a-handler.md", f"after {Schedule().attempts} attempts"),
        ("how-to/run-workers.md", f"lease = {WorkerRoot().lease:.1f}"),
        ("explanation/outbox.md", f"every {handlers.SEEN_EVERY:g} seconds"),
        ("reference/events.md", f"up to {observers.LIMIT} observations wait"),
        ("reference/events.md", f"observers have {observers.CLOSING:g} seconds"),
        ("reference/events.md", f"longer than {observers.SLOW:g} seconds for {observers.PATIENCE} times"),
        ("explanation/security.md", f"deliveries {inbound.MAX_BODY >> 20} MiB"),
        ("explanation/security.md", f"answers {TransportSettings().max_body >> 20} MiB"),
        ("../CHANGELOG.md", f"{len([name for name in vars(HookSpecs) if name.startswith('gs_')])} hooks"),
    ],
)
def test_numbers_in_the_text_are_those_of_the_code(name: str, text: str) -> None:
    assert text in " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())


def test_every_folder_is_on_the_map() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    there = [path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.name != "README.md"]
    there = [name for name in there if name not in ignored and f"{name}/" not in ignored]
    assert [name for name in there if f"`{name}" not in readme] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    """Sphinx checks the links inside docs/; these are the pages that a repository's site shows."""
    broken = []
    for path in [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            if not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert broken == []
