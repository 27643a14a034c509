"""Every example of the documentation runs as it is printed, page by page, in a folder of its own.

What a page may say in an HTML comment on the line before a block:

- ``file: NAME`` writes the block to a file, ``append: NAME`` adds it to one;
- ``output`` says that the block is what the Python block before it printed;
- ``background`` keeps the block's command running until the page ends;
- ``with: MODULE`` runs the block only where that module is installed;
- ``not run: REASON`` leaves the block out, and the reason is shown by the test run.

``needs: sandbox``, anywhere in the page, starts a sandbox and writes a configuration for it first.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib.util
import io
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, Self

import pytest
from attrs import define, field, frozen

from go_services_core.demo.files import Files
from go_services_core.testing.sandbox import SandboxProcess

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?:<!-- (?P<said>[^\n]*?) -->\n)?^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
TERMINAL = (
    "README.md",
    "docs/tutorial/first-connection.md",
    "docs/how-to/adopt-a-go-services-database.md",
    "docs/how-to/github-enterprise.md",
    "docs/how-to/notify-people.md",
    "docs/how-to/operate-the-store.md",
    "docs/how-to/rotate-keys.md",
    "docs/how-to/test-with-the-sandbox.md",
    "docs/how-to/write-a-handler.md",
)
"""The pages whose console blocks are typed; on the others a console block only shows a command."""
TARGETS = {"make demo": "go-services demo"}
"""What a target of the Makefile runs; make itself would first set up an environment."""
RUN_ELSEWHERE = {
    "docs/plugins/hooks.md": "tests/docs/test_hooks_documented.py",
    "docs/how-to/connect-any-oauth-server.md": "tests/integration/oidc/site.py",
    "docs/how-to/connect-with-aws-keys.md": "tests/integration/test_aws_keys.py",
    "docs/how-to/choose-a-flow.md": "tests/integration/oidc/flows.py",
    "docs/how-to/connect-with-client-certificates.md": "tests/integration/test_client_certificates.py",
    "docs/how-to/sign-with-http-message-signatures.md": "tests/integration/test_message_signatures.py",
    "docs/how-to/bind-tokens-with-dpop.md": "tests/integration/test_oidc_dpop.py",
}
"""Pages whose examples another test runs → which."""
MASKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:\d\d|Z)?"), "TIME"),
    (re.compile(r"\d+(\.\d+)? (ms|KiB)"), r"N \2"),
    (re.compile(r"SQLite \d+\.\d+\.\d+, schema \d+, \d+ tables"), "SQLite N"),
    (re.compile(r"sbx_[a-z]+_[A-Za-z0-9_-]*"), "TOKEN"),
    (re.compile(r"req_[a-z2-7]+"), "REQUEST"),
    (re.compile(r"gsk1_[A-Za-z0-9_-]+"), "KEY"),
    (re.compile(r"app-key-[0-9a-f]{8}"), "KEY_ID"),
    (re.compile(r"127\.0\.0\.1(:|%3A)\d+"), "LOOPBACK"),
    (re.compile(r"(code_challenge|state)=[A-Za-z0-9_-]+"), r"\1=RANDOM"),
    (re.compile(r"[ \t]+"), " "),
)
"""What differs from run to run."""
SHOWN = re.compile(r"(?:# )?(?P<name>\w+)(?:  +|=)(?P<value>\S+)")
"""A line that shows one named value."""
WAIT = 30.0
"""Seconds until a background command must have printed what the page shows."""


@frozen
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    said: str
    line: int

    def says(self, word: str) -> str | None:
        """What follows ``word`` in the comment before the block."""
        head, _, rest = self.said.partition(":")
        return rest.strip() if head.strip() == word else None


def pages() -> list[str]:
    """The pages with examples, as paths below the repository."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [str(path.relative_to(ROOT)) for path in found if "_build" not in path.parts and examples_of(path)]


def blocks_of(text: str) -> list[Block]:
    """Every block of a page."""
    return [
        Block(found["language"], found["text"], found["said"] or "", text.count("\n", 0, found.start("text")))
        for found in BLOCK.finditer(text)
    ]


def examples_of(path: Path) -> list[Block]:
    """The blocks that are run: Python everywhere, and the terminal of some pages."""
    languages = ("python", "console") if str(path.relative_to(ROOT)) in TERMINAL else ("python",)
    return [block for block in blocks_of(path.read_text(encoding="utf-8")) if block.language in languages]


def left_out(page: str, block: Block) -> str | None:
    """Why nobody runs a block, or None."""
    module = block.says("with")
    if module is not None and importlib.util.find_spec(module) is None:
        return f"it needs {module}, which is not installed"
    return block.says("not run")


LEFT_OUT = [
    pytest.param(reason, id=f"{page}:{block.line}")
    for page in pages()
    for block in examples_of(ROOT / page)
    if (reason := left_out(page, block)) is not None
]


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_example_is_left_out_for_a_reason(reason: str) -> None:
    assert len(reason) > 10, "say why the example is not run"
    pytest.skip(reason)


@pytest.mark.parametrize(("page", "test"), RUN_ELSEWHERE.items())
def test_page_that_another_test_runs_is_named_in_it(page: str, test: str) -> None:
    assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _apart() -> Iterator[None]:
    """What an application sets for its process ends with its page: loggers (Litestar, uvicorn), settings (Django)."""
    before = {logger: (logger.level, logger.handlers[:], logger.propagate, logger.disabled) for logger in _loggers()}
    _forget_django()
    yield
    for logger in _loggers():
        level, handlers, propagate, disabled = before.get(logger, (logging.NOTSET, [], True, False))
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate, logger.disabled = propagate, disabled
    _forget_django()


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(each for each in known if isinstance(each, logging.Logger))]


def _forget_django() -> None:
    if "django.conf" in sys.modules:
        from django.conf import settings
        from django.utils.functional import empty

        settings._wrapped = empty


@pytest.mark.parametrize("page", [page for page in pages() if page not in RUN_ELSEWHERE])
def test_examples_run_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("8400", str(free_port()))
    for name in [name for name in os.environ if name.startswith("GO_SERVICES")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with Reader(page, tmp_path, monkeypatch) as reader, contextlib.ExitStack() as stack:
        if "<!-- needs: sandbox -->" in text:
            sandbox = stack.enter_context(SandboxProcess())
            prepare(sandbox, tmp_path)
            reader.names["sandbox"] = sandbox
        for block in blocks_of(text):
            if left_out(page, block) is None:
                reader.read(block)
            else:
                reader.printed = None


def prepare(sandbox: Any, folder: Path) -> None:
    """A configuration with the sandbox as provider ``sandbox``, a key and a migrated database."""
    from go_services_secrets_appkey.key import generate_key

    Files(folder, "sqlite:///go-services.db").write(sandbox, generate_key().reveal())
    subprocess.run([Path(sys.executable).with_name("go-services"), "store", "migrate"], check=True, capture_output=True)


def free_port() -> int:
    """A port for the 8400 of the pages, so that they can be tested side by side."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@define
class Reader:
    """Somebody who types what a page shows, in a terminal and in one Python session."""

    page: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    names: dict[str, Any] = field(factory=dict)
    seen: dict[str, str] = field(factory=dict)
    printed: str | None = ""
    """What the last Python block printed; None when it was left out."""
    imported: set[str] = field(factory=set)
    runner: asyncio.Runner = field(factory=asyncio.Runner)
    running: list[subprocess.Popen[str]] = field(factory=list)

    def __enter__(self) -> Self:
        module = ModuleType("__main__")
        module.__dict__.update(self.names)
        self.names = module.__dict__
        tools = self.folder.parent / f"{self.folder.name}-browser"
        tools.mkdir()
        for name in ("xdg-open", "open"):
            browser = tools / name
            browser.write_text(BROWSER)
            browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.monkeypatch.setenv("PATH", path)
        self.monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        self.monkeypatch.syspath_prepend(str(self.folder))
        self.imported = set(sys.modules)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.terminate()
            process.wait(WAIT)
            if process.stdout is not None:
                process.stdout.close()
        self.runner.close()
        for name in set(sys.modules) - self.imported:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(self.folder)):
                del sys.modules[name]

    def read(self, block: Block) -> None:
        """Do what the block says."""
        where = f"{self.page}:{block.line}"
        if (name := block.says("file") or block.says("append")) is not None:
            with Path(name).open("w" if block.says("file") else "a", encoding="utf-8") as file:
                file.write(self.filled(block.text))
        elif block.said == "output" and self.printed is not None:
            compare(where, self.printed.splitlines(), block.text.splitlines())
        elif block.language == "console" and self.page in TERMINAL:
            self.type(where, block.text, background=block.said == "background")
        elif block.language == "python":
            self.run(where, block)

    def run(self, where: str, block: Block) -> None:
        """Run Python; ``await`` is allowed at the top, as in ``python -m asyncio``."""
        source = "\n" * block.line + dedent(self.filled(block.text))
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, str(ROOT / self.page), "exec", flags=flags, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            made = eval(code, self.names)
            if made is not None:
                self.runner.run(made)
        self.printed = printed.getvalue()

    # --- the terminal ----------------------------------------------------------------------------------------------

    def type(self, where: str, text: str, *, background: bool) -> None:
        """Run each command of a console block and compare what it prints."""
        for command, expected in commands(text):
            command = TARGETS.get(command, self.filled(command))
            actual = self.start(command, expected[-1]) if background else self.execute(where, command)
            compare(f"{where}: {command}", actual, expected)
            for line in actual:
                if found := SHOWN.fullmatch(line):
                    self.seen[found["name"]] = found["value"]

    def filled(self, text: str) -> str:
        """CONNECTION, and what a variable is set to with ``…``, replaced by what an earlier command showed."""
        if "id" in self.seen:
            text = re.sub(r"\bCONNECTION\b", self.seen["id"], text)
        return re.sub(r"export (\w+)=\w*…", lambda found: f"export {found[1]}={self.seen[found[1]]}", text)

    def execute(self, where: str, command: str) -> list[str]:
        """Run one command in a shell; folder and environment are kept for the next."""
        kept = self.folder.parent / f"{self.folder.name}-shell"
        script = f'{command}\nstatus=$?; pwd > "{kept}"; env -0 >> "{kept}"; exit $status'
        done = subprocess.run(
            ["bash", "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
        )
        assert done.returncode == 0, f"{where}: {command}\n{done.stdout}"
        folder, _, environment = kept.read_text(encoding="utf-8").partition("\n")
        self.monkeypatch.chdir(folder)
        for entry in environment.split("\0"):
            name, equals, value = entry.partition("=")
            if equals and name not in ("_", "SHLVL", "PWD", "OLDPWD") and os.environ.get(name) != value:
                self.monkeypatch.setenv(name, value)
        return done.stdout.splitlines()

    def start(self, command: str, last: str) -> list[str]:
        """Start a command that goes on, and give what it prints up to the line ``last``."""
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], text=True, stdout=subprocess.PIPE)
        self.running.append(process)
        stdout = process.stdout
        assert stdout is not None
        timer = threading.Timer(WAIT, process.kill)
        timer.start()
        lines: list[str] = []
        try:
            while last not in lines and (line := stdout.readline()):
                lines.append(line.rstrip("\n"))
        finally:
            timer.cancel()
        return lines


BROWSER = f"""\
#!{sys.executable}
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(sys.argv[1], timeout=30).read()
"""
"""What stands in for the browser that the command opens: it follows the redirects of a provider that consents."""


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Commands of a console block, each with the lines shown below it."""
    parts = re.split(r"^\$ ", dedent(text), flags=re.MULTILINE)
    assert not parts[0].strip(), "a console block begins with a command"
    for part in parts[1:]:
        lines = part.rstrip("\n").split("\n")
        while lines[0].endswith("\\"):
            lines[0:2] = [lines[0] + "\n" + lines[1]]
        yield lines[0], lines[1:]


def masked(line: str) -> str:
    for pattern, mask in MASKS:
        line = pattern.sub(mask, line)
    return line.strip()


def compare(where: str, actual: Sequence[str], expected: Sequence[str]) -> None:
    """Compare loosely: ids, times and spaces are masked; ``…`` stands for any text, or alone for any lines."""
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*".join(re.escape(masked(part)) for part in line.split("…")).replace(r"\ ", " ?") + r" *\n"
    shown = "".join(masked(line) + "\n" for line in actual)
    assert re.fullmatch(pattern, shown), (
        f"{where}\n--- printed\n" + "\n".join(actual) + "\n--- the page shows\n" + "\n".join(expected)
    )
