"""``go-services connections budget``: what is left, for people and programs."""

from __future__ import annotations

import json
from pathlib import Path

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run
from .test_connect import connect


def test_budget_shows_the_declared_windows_and_sends_nothing(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    made = connect()
    before = sandbox.requests()
    empty = run("connections", "budget", made["id"], "items.list").stdout
    assert empty == "No window is declared. What answers tell is known to the processes that get them.\n"
    config = connected_config / "go-services.toml"
    text = config.read_text()
    assert "[providers.sandbox]\n" in text
    limit = "rate_limit = [{ units = 200, seconds = 3600 }]\n"
    config.write_text(text.replace("[providers.sandbox]\n", f"[providers.sandbox]\n{limit}", 1))
    (window,) = json.loads(run("connections", "budget", made["id"], "items.list", "--json").stdout)["windows"]
    assert window == {"window": "3600", "limit": 200.0, "remaining": 200.0, "reset_in": 0.0, "paused_in": 0.0}
    header, line = run("connections", "budget", made["id"], "items.list").stdout.splitlines()
    assert header.split()[0] == "WINDOW"
    assert line.split()[:3] == ["3600", "s", "200"]
    assert line.split()[3:] == ["200", "0", "s", "-"]
    assert "200 in 3600 s, for each connection" in run("providers", "show", "sandbox", "items.list").stdout
    assert sandbox.requests() == before
    assert "nothing" in run("connections", "budget", made["id"], "nothing", code=1).stderr
