"""A folder to work in, the command in this process or in its own, and plugins made on the spot."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import click.testing
import pytest

from go_services_core.cli.main import main
from go_services_core.testing.sandbox import SandboxProcess

Result = click.testing.Result
Run = Callable[..., Result]
Install = Callable[..., str]
_COUNT = itertools.count()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("GO_SERVICES"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run the command in this process: ``run("plugins", "list", code=0, input=None)``."""

    def invoke(*args: str, code: int = 0, input: str | None = None) -> Result:
        result = click.testing.CliRunner().invoke(main, list(args), input=input, catch_exceptions=False)
        assert result.exit_code == code, f"{args}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    return invoke


def go_services(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a process of its own."""
    return subprocess.run(
        [Path(sys.executable).with_name("go-services"), *args], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a plugin for the length of a test, in this process and in those that it starts: id, source of its module."""

    def make(id: str, source: str, *, distribution: str | None = None) -> str:
        site = tmp_path_factory.mktemp("site")
        module = f"gs_made_{next(_COUNT)}"
        (site / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        name = distribution or f"go-services-{id}"
        info = site / f"{name.replace('-', '_')}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[go_services.plugins]\n{id} = {module}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))
        return module

    return make


@pytest.fixture
def ready(run: Run, folder: Path, sqlite_template: Path) -> Path:
    """The working directory with a configuration, a key and a migrated database."""
    run("init")
    shutil.copy(sqlite_template, folder / "go-services.db")
    return folder


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    """A provider in a process of its own that consents by itself."""
    with SandboxProcess(auto_approve=True) as started:
        yield started


@pytest.fixture
def connected_config(ready: Path, sandbox: SandboxProcess) -> Path:
    """As ``ready``, with the sandbox declared as provider ``sandbox`` and its key as provider ``keyed``."""
    secret = ready / "sandbox.secret"
    secret.write_text(sandbox.client_secret.reveal())
    host = sandbox.url.removeprefix("http://")
    with (ready / "go-services.toml").open("a") as file:
        file.write(
            dedent(f"""
            [egress.allow]
            sandbox = ["{host}"]
            keyed = ["{host}"]

            [providers.sandbox]
            name = "Sandbox"
            client_id = "{sandbox.client_id}"
            client_secret = "file:sandbox.secret"
            auth = {{kind = "oauth2_auth_code", authorize_url = "{sandbox.url}/authorize", token_url = "{sandbox.url}/token", revocation_url = "{sandbox.url}/revoke", issuer = "{sandbox.url}", default_grants = ["items.read", "items.write"]}}
            api = {{base_url = "{sandbox.url}"}}
            identity = {{url = "/userinfo"}}

            [[providers.sandbox.capabilities]]
            name = "items.read"
            grants = ["items.read"]

            [[providers.sandbox.operations]]
            id = "items.list"
            method = "GET"
            path = "/items"
            capability = "items.read"
            params = [{{name = "per_page", type = "integer"}}]
            pagination = {{style = "link"}}

            [[providers.sandbox.operations]]
            id = "items.create"
            method = "POST"
            path = "/items"
            params = [{{name = "name", where = "body", required = true}}]
            idempotency_header = "Idempotency-Key"

            [providers.keyed]
            auth = {{kind = "api_key"}}
            api = {{base_url = "{sandbox.url}"}}
            """)
        )
    return ready
