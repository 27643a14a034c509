"""Distributions that are really installed: metadata and modules on disk, in a folder that is on ``sys.path``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

PROVIDER = """
    from go_services_core import ApiSpec, PersonalToken, ProviderSpec, hookimpl

    GS_CONTRACT = 1

    @hookimpl
    def gs_providers():
        return [ProviderSpec(id="{id}", name="{id}", auth=PersonalToken(), api=ApiSpec(base_url="https://{id}.example"))]
"""

Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for installed distributions; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """``install("acme", source)`` writes the distribution go-services-acme 1.0 with the plugin ``acme``."""

    def run(
        id: str,
        source: str = PROVIDER,
        *,
        distribution: str | None = None,
        version: str = "1.0",
        module: str | None = None,
        entry_points: str | None = None,
        folder: Path = site,
        files: Mapping[str, str] | None = None,
    ) -> None:
        distribution = distribution or f"go-services-{id}"
        module = module or f"{distribution.replace('-', '_')}_plugin"
        (folder / f"{module}.py").write_text(dedent(source).replace("{id}", id))
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        described = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n\n"
        (info / "METADATA").write_text(described)
        (info / "entry_points.txt").write_text(entry_points or f"[go_services.plugins]\n{id} = {module}\n")
        for name, text in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return run
