"""How long the command and the library take to start. Byte code is compiled before anything is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .harness import Result, alternate, over, plain, ratio

RUNS = 21
COMMAND = str(Path(sys.executable).with_name("go-services"))
PLUGIN = """\
from go_services_core import ApiSpec, OAuth2Code, ProviderSpec, hookimpl

GS_CONTRACT = 1
SPEC = ProviderSpec(
    id="{id}", name="{id}",
    auth=OAuth2Code(authorize_url="https://{id}.example/a", token_url="https://{id}.example/t"),
    api=ApiSpec(base_url="https://{id}.example"),
)


@hookimpl
def gs_providers():
    return [SPEC]
"""


def _timed(*command: str, env: Mapping[str, str] | None = None) -> Callable[[], float]:
    environ = {
        name: value for name, value in {**os.environ, **(env or {})}.items() if name != "PYTHONDONTWRITEBYTECODE"
    }

    def run() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ, cwd=tempfile.gettempdir())
        return (time.perf_counter() - began) * 1000

    run()
    return run


def version() -> list[Result]:
    """``go-services --version`` beside the bare interpreter."""
    ours, bare = alternate(_timed(COMMAND, "--version"), _timed(sys.executable, "-c", "pass"), pairs=RUNS)
    return [
        ratio(
            "version",
            better="lower",
            unit="ms",
            samples=ours,
            peer_samples=bare,
            peer_name="python -c pass",
            target=5.0,
        )
    ]


def import_spec() -> list[Result]:
    """The import that every plugin module makes."""
    ours, bare = alternate(
        _timed(sys.executable, "-c", "from go_services_core import ProviderSpec"),
        _timed(sys.executable, "-c", "pass"),
        pairs=RUNS,
    )
    return [over("import-spec", unit="ms", samples=ours, peer_samples=bare, peer_name="python -c pass", target=60.0)]


def plugins_list() -> list[Result]:
    """``plugins list --json`` with 50 plugins that are installed and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(50):
            install(Path(folder), f"bench-{number:02}")
        env = {"PYTHONPATH": folder}
        (samples,) = alternate(_timed(COMMAND, "plugins", "list", "--json", env=env), pairs=RUNS)
    return [plain("plugins-list-50", unit="ms", samples=samples, target=250.0)]


def install(folder: Path, id: str) -> None:
    """A plugin as pip would leave it: a module, and the metadata of its distribution."""
    module = id.replace("-", "_")
    (folder / f"{module}.py").write_text(PLUGIN.format(id=id))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {id}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[go_services.plugins]\n{id} = {module}\n")


BENCHMARKS: dict[str, Callable[[], list[Result]]] = {
    "version": version,
    "import-spec": import_spec,
    "plugins-list-50": plugins_list,
}
