"""References are checked when they are written and imported when they are used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from go_services_core.errors import PluginBroken, ServicesError
from go_services_core.refs import Ref


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Writes importable modules of names that no other test uses."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(source: str) -> str:
        name = f"ref_{abs(hash(request.node.nodeid))}_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "target",
    [
        "",
        ":",
        "a",
        "a:",
        ":b",
        "a.b",
        "a:b.c",
        "a:b:c",
        "a b:c",
        ".a:b",
        "a.:b",
        "a..b:c",
        "a:1b",
        "a-b:c",
        "a/b:c",
        "a: b",
    ],
)
def test_a_target_that_is_no_reference_is_refused_when_it_is_written(target: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:Name"):
        Ref(target)


def test_a_reference_gives_the_object() -> None:
    found: Any = Ref("go_services_core.errors:ServicesError").resolve()
    assert found is ServicesError


def test_nothing_is_imported_before_the_first_use(modules: Any) -> None:
    name = modules("Thing = object()")
    ref: Ref[Any] = Ref(f"{name}:Thing")
    assert name not in sys.modules
    assert ref.resolve() is sys.modules[name].Thing


def test_the_import_happens_once(modules: Any) -> None:
    name = modules("def __getattr__(name):\n    return object()")
    assert Ref[Any](f"{name}:Thing").resolve() is Ref[Any](f"{name}:Thing").resolve()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import module_that_is_nowhere", "ModuleNotFoundError"),
        ("Other = 1", "AttributeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_module_that_does_not_load_is_a_broken_plugin(modules: Any, source: str, says: str) -> None:
    name = modules(source)
    with pytest.raises(PluginBroken) as caught:
        Ref(f"{name}:Thing", hint="Install the extra [thing].").resolve()
    assert f"{name}:Thing" in str(caught.value)
    assert says in str(caught.value)
    assert str(caught.value).endswith("Install the extra [thing].")
    assert caught.value.__cause__ is not None


def test_a_module_that_is_not_there_is_a_broken_plugin() -> None:
    with pytest.raises(PluginBroken, match="no_such_package"):
        Ref("no_such_package.module:Thing").resolve()


def test_a_failed_import_is_tried_again(modules: Any) -> None:
    name = modules("import sys\nif not hasattr(sys, 'ref_ready'): raise ImportError('not yet')\nThing = 7")
    ref: Ref[int] = Ref(f"{name}:Thing")
    with pytest.raises(PluginBroken, match="not yet"):
        ref.resolve()
    sys.ref_ready = True  # type: ignore[attr-defined]
    try:
        assert ref.resolve() == 7
    finally:
        del sys.ref_ready  # type: ignore[attr-defined]


def test_references_are_equal_by_target() -> None:
    assert Ref("a.b:C") == Ref("a.b:C", hint="x")
    assert Ref("a.b:C") != Ref("a.b:D")
    assert len({Ref("a.b:C"), Ref("a.b:C", hint="x")}) == 1
