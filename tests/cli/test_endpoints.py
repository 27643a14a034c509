"""Endpoints and notifications on the command line: secrets are shown once, and writes can be tried."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run

URL = "https://customer.example/hooks"


@pytest.fixture
def endpoint(ready: Path, run: Run) -> str:
    """The id of an endpoint."""
    run("store", "migrate")
    added = json.loads(run("endpoints", "add", URL, "--scope", "org:o1", "--event", "connection.*", "--json").stdout)
    assert added["secret"].startswith("whsec_")
    assert added["endpoint"]["status"] == "active"
    return str(added["endpoint"]["id"])


def on_a_terminal(*args: str) -> str:
    """What the command prints where somebody reads it."""
    primary, secondary = pty.openpty()
    try:
        command = [Path(sys.executable).with_name("go-services"), *args]
        done = subprocess.run(command, stdout=secondary, stderr=subprocess.PIPE, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        os.set_blocking(primary, False)
        return os.read(primary, 65_536).decode()
    finally:
        os.close(primary)
        os.close(secondary)


def test_secret_is_shown_once_and_to_a_reader_alone(ready: Path, run: Run) -> None:
    run("store", "migrate")
    refused = run("endpoints", "add", URL, code=2)
    assert "terminal" in refused.stderr
    assert json.loads(run("endpoints", "list", "--json").stdout) == {"endpoints": [], "next": None}
    shown = on_a_terminal("endpoints", "add", URL)
    secret = shown.partition("secret: ")[2].split()[0]
    assert secret.startswith("whsec_")
    assert len(secret) > 40
    (found,) = json.loads(run("endpoints", "list", "--json").stdout)["endpoints"]
    for command in (("show", found["id"]), ("show", found["id"], "--json"), ("list",), ("list", "--json")):
        assert "whsec_" not in run("endpoints", *command).stdout
    assert "terminal" in run("endpoints", "rotate", found["id"], code=2).stderr
    rotated = json.loads(run("endpoints", "rotate", found["id"], "--overlap", "1h", "--json").stdout)
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != secret


def test_dry_run_changes_nothing(endpoint: str, run: Run) -> None:
    before = run("endpoints", "list", "--json").stdout
    events = run("store", "status").stdout
    assert "Would send" in run("endpoints", "add", "https://other.example", "--dry-run").stdout
    for command in ("pause", "resume", "rotate", "remove", "test"):
        assert endpoint in run("endpoints", command, endpoint, "--dry-run").stdout
        told = json.loads(run("endpoints", command, endpoint, "--dry-run", "--json").stdout)
        assert (told["dry_run"], told["endpoint"]["id"]) == (True, endpoint)
    assert "Would replay 0" in run("endpoints", "replay", endpoint, "--dry-run").stdout
    assert run("endpoints", "list", "--json").stdout == before
    assert run("store", "status").stdout == events


def test_endpoint_is_paused_resumed_and_removed(endpoint: str, run: Run) -> None:
    paused = json.loads(run("endpoints", "pause", endpoint, "--reason", "broken", "--json").stdout)["endpoint"]
    assert (paused["status"], paused["status_reason"]) == ("paused", "broken")
    assert endpoint in run("endpoints", "list", "--status", "paused", "--scope", "org:o1").stdout
    assert "no such endpoint" in run("endpoints", "list", "--scope", "org:other").stdout
    assert "active" in run("endpoints", "resume", endpoint).stdout
    assert "Nothing was changed" in run("endpoints", "remove", endpoint, code=1, input="n\n").stderr
    assert "Removed" in run("endpoints", "remove", endpoint, "--yes").stdout
    assert run("endpoints", "show", endpoint, code=1).stderr.startswith("error: There is no endpoint")


def test_test_tells_what_the_endpoint_answered(endpoint: str, run: Run) -> None:
    run("config", "set", "endpoints.timeout", "0.5")
    told = json.loads(run("endpoints", "test", endpoint, "--json", code=1).stdout)
    assert (told["ok"], told["status"]) == (False, None)
    assert told["detail"]


def test_messages_and_notifications_are_listed(endpoint: str, run: Run) -> None:
    assert json.loads(run("endpoints", "messages", endpoint, "--json").stdout) == {"messages": [], "next": None}
    assert "No such message" in run("endpoints", "messages", "--status", "failed", "--since", "2h").stdout
    assert "neither a time" in run("endpoints", "messages", "--since", "yesterday", code=2).stderr
    assert "Replayed 0 dead messages." in run("endpoints", "replay", endpoint).stdout
    assert "There is no message" in run("endpoints", "replay", "--message", "none", code=1).stderr
    for wrong in ((), (endpoint, "--message", "m"), ("--message", "m", "--dry-run")):
        assert "ENDPOINT" in run("endpoints", "replay", *wrong, code=2).stderr
    assert json.loads(run("notifications", "list", "--json").stdout) == {"notifications": [], "next": None}
    assert "There is none." in run("notifications", "list", "--status", "failed").stdout
    assert "There is no notification 'lost'." in run("notifications", "retry", "lost", "e1", code=1).stderr


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "[fe80::1]", "169.254.169.254", "localhost", "metadata.google.internal"]
)
def test_host_that_is_not_public_is_refused_at_once(host: str, ready: Path, run: Run) -> None:
    for options in ((), ("--dry-run",)):
        shown = run("endpoints", "add", f"https://{host}/hooks", "--json", *options, code=1)
        assert shown.stdout == ""
        assert f"may not reach {host}:443" in shown.stderr
        assert f'add "{host}:443" to the setting egress.allow.endpoint' in shown.stderr
    assert json.loads(run("endpoints", "list", "--json").stdout)["endpoints"] == []
    assert json.loads(run("outbox", "status", "--json").stdout)["handlers"] == []
    with (ready / "go-services.toml").open("a") as config:
        config.write(f'\n[egress.allow]\nendpoint = ["{host}:443"]\n')
    run("endpoints", "add", f"https://{host}/hooks", "--json")


def test_remedy_for_a_url_of_another_scheme_names_a_host_with_its_port(ready: Path, run: Run) -> None:
    said = run("endpoints", "add", "ftp://hooks.example/a", "--json", code=2).stderr
    assert '"hooks.example:80"' in said
