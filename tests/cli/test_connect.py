"""Connecting, listing, calling and ending, against a real provider on this machine."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run

COMMAND = str(Path(sys.executable).with_name("go-services"))


def start_connect(*args: str) -> tuple[subprocess.Popen[str], str]:
    """Start ``connect`` and give the consent URL that it prints."""
    process = subprocess.Popen(
        [COMMAND, "connect", "sandbox", "--scope", "user:1", "--no-browser", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("Consent here: "), line + process.stderr.read()
    return process, line.removeprefix("Consent here: ").strip()


def connect(*args: str) -> dict[str, str]:
    process, url = start_connect("--json", *args)
    with urllib.request.urlopen(url, timeout=30) as page:
        assert page.status == 200
        shown = page.read().decode()
        final = page.url
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "<h1>Connected</h1>" in shown
    assert "code=" not in final
    assert "state=" not in final
    made: dict[str, str] = json.loads(out)
    return made


def test_connect_receives_the_callback_and_the_connection_can_be_used_until_it_is_disconnected(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    made = connect()
    assert (made["provider"], made["scope"], made["status"]) == ("sandbox", "user:1", "active")

    listed = json.loads(run("connections", "list", "--provider", "sandbox", "--scope", "user:1", "--json").stdout)
    assert [one["id"] for one in listed["connections"]] == [made["id"]]
    assert run("connections", "list", "--status", "disconnected").stdout == "There is no such connection.\n"
    assert made["account"] in run("connections", "show", made["id"]).stdout
    shown = json.loads(run("connections", "show", made["id"], "--profile", "--json").stdout)
    assert (shown["account"], shown["profile"]["subject"]) == (made["account"], made["account"])
    assert shown["profile"]["name"] in run("connections", "show", made["id"], "--profile").stdout

    called = json.loads(run("call", made["id"], "items.list", "--param", "per_page=2", "--json").stdout)
    assert called["status"] == 200
    assert len(called["data"]) == 2
    every = run("call", made["id"], "items.list", "--param", "per_page=10", "--all-pages").stdout.splitlines()
    assert len(every) > 10
    assert all("id" in json.loads(line) for line in every)

    tokens = sandbox.requests()["token"]
    assert "active" in run("connections", "refresh", made["id"]).stdout
    assert sandbox.requests()["token"] == tokens + 1

    assert "Would disconnect" in run("connections", "disconnect", made["id"], "--dry-run").stdout
    declined = run("connections", "disconnect", made["id"], input="n\n", code=1)
    assert "Nothing was changed." in declined.stderr
    assert "active" in run("connections", "show", made["id"]).stdout
    ended = json.loads(run("connections", "disconnect", made["id"], "--yes", "--json").stdout)
    assert ended["revoked"] is True
    assert ended["connection"]["status"] == "disconnected"
    refused = run("call", made["id"], "items.list", code=1)
    assert refused.stderr.startswith("error: ")

    printed = " ".join(str(part) for part in (made, listed, called, every, ended, refused.stderr))
    assert not [secret for secret in sandbox.issued_secrets() if secret in printed]


def test_call_sends_the_idempotency_key_so_that_repeating_creates_one_item(connected_config: Path, run: Run) -> None:
    made = connect()
    arguments = ("call", made["id"], "items.create", "--param", "name=lamp", "--idempotency-key", "k1")
    first, second = (run(*arguments) for _ in range(2))
    assert json.loads(first.stdout)["id"] == json.loads(second.stdout)["id"]
    assert first.stderr == ""
    assert second.stderr.startswith("note: nothing was sent")
    third = json.loads(run(*arguments, "--json").stdout)
    assert (third["replayed"], third["idempotency_key"], third["status"]) == (True, "k1", 201)
    assert json.loads(run(*arguments[:-1], "k2", "--json").stdout)["replayed"] is False


def test_call_refuses_what_the_operation_does_not_take_before_anything_is_sent(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    made = connect()
    before = sandbox.requests().get("items.list", 0)
    wrong = run("call", made["id"], "items.list", "--param", "per_page=two", code=2)
    assert "per_page is integer" in wrong.stderr
    unknown = run("call", made["id"], "items.list", "--param", "perpage=2", code=2)
    assert "Did you mean 'per_page'?" in unknown.stderr
    assert "Did you mean 'items.list'?" in run("call", made["id"], "item.list", code=1).stderr
    would = run("call", made["id"], "items.list", "--param", "per_page=2", "--dry-run").stdout
    assert f"GET {sandbox.url}/items?per_page=2" in would
    assert sandbox.requests().get("items.list", 0) == before


def test_what_the_sandbox_command_prints_is_all_that_it_takes_to_connect_it(
    ready: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen([COMMAND, "sandbox", "--auto-approve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        printed = "".join(iter(process.stdout.readline, "# Ctrl-C ends it.\n"))
        for name in ("SANDBOX_CLIENT_SECRET", "SANDBOX_WEBHOOK_SECRET"):
            secret = re.search(rf"^# {name}=(\S+)$", printed, re.MULTILINE)
            assert secret is not None
            monkeypatch.setenv(name, secret[1])
        with (ready / "go-services.toml").open("a") as file:
            file.write(printed)
        made = connect()
        called = json.loads(run("call", made["id"], "items.create", "--param", "name=lamp").stdout)
        again = json.loads(run("call", made["id"], "items.get", "--param", f"id={called['id']}").stdout)
        assert again["name"] == "lamp"
        assert json.loads(run("connections", "disconnect", made["id"], "--yes", "--json").stdout)["revoked"] is True
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_refused_consent_is_shown_escaped_and_keeps_nothing(connected_config: Path, sandbox: SandboxProcess) -> None:
    sandbox.set(deny_next=True)
    process, url = start_connect()
    with urllib.request.urlopen(url, timeout=30) as page:
        shown = page.read().decode()
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "access_denied" in err
    assert "Traceback" not in err
    assert "<h1>Not connected</h1>" in shown
    assert out == ""


def test_callback_with_another_state_is_refused_and_the_right_one_still_counts(connected_config: Path) -> None:
    process, url = start_connect("--json")
    host = re.search(r"127\.0\.0\.1%3A(\d+)%2Fcallback", url)
    assert host is not None
    stray = f"http://127.0.0.1:{host[1]}/callback?code=x&state=guessed"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(stray, timeout=30)
    assert refused.value.code == 400
    refused.value.close()
    with urllib.request.urlopen(url, timeout=30) as page:
        assert "<h1>Connected</h1>" in page.read().decode()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["status"] == "active"


def test_port_that_was_chosen_is_in_the_redirect_uri_that_is_sent_and_compared(
    connected_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 8252 §7.3; the sandbox compares it at its token endpoint, and the runtime where the callback arrived."""
    monkeypatch.setenv("GO_SERVICES__RUNTIME__REQUIRE_REDIRECT_URI", "true")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, url = start_connect("--json", "--port", str(port))
    (sent,) = parse_qs(urlsplit(url).query)["redirect_uri"]
    assert sent == f"http://127.0.0.1:{port}/callback"
    with sqlite3.connect(connected_config / "go-services.db") as database:
        assert database.execute("SELECT redirect_uri FROM service_oauth_attempts").fetchall() == [(sent,)]
    database.close()
    with urllib.request.urlopen(url, timeout=30) as page:
        assert urlsplit(page.url).netloc == f"127.0.0.1:{port}"
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["status"] == "active"


def test_connect_gives_up_after_the_timeout(connected_config: Path, run: Run) -> None:
    result = run("connect", "sandbox", "--scope", "user:1", "--no-browser", "--timeout", "1", code=1)
    assert "Nobody came back from the consent page within 1 s." in result.stderr
    assert "registered at the provider?" in result.stderr


def test_ctrl_c_while_waiting_ends_with_130_and_no_traceback(connected_config: Path) -> None:
    process, _ = start_connect()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.strip().endswith("interrupted")


def test_typed_credential_is_asked_for_and_not_shown(connected_config: Path, sandbox: SandboxProcess, run: Run) -> None:
    key = sandbox.api_key.reveal()
    result = run("connect", "keyed", "--scope", "org:acme", "--auth", "api_key", "--json", input=key + "\n")
    assert json.loads(result.stdout)["auth"] == "api_key"
    assert key not in result.stdout + result.stderr


def test_grants_of_a_kind_that_is_not_asked_for_any_are_refused_and_not_dropped(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    args = ("connect", "keyed", "--scope", "org:acme", "--grant", "items.read")
    assert "Leave out the grants." in run(*args, input=sandbox.api_key.reveal() + "\n", code=2).stderr
    assert run("connections", "list").stdout == "There is no such connection.\n"
    assert run(*args, "--dry-run").stdout.endswith("for org:acme with items.read.\n")


def test_dry_run_of_connect_says_what_it_would_ask_for(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    would = run("connect", "sandbox", "--scope", "user:1", "--grant", "items.read", "--dry-run").stdout
    assert would == "Would open the consent page for items.read and connect sandbox by oauth2_auth_code for user:1.\n"
    assert "Would ask for key" in run("connect", "keyed", "--scope", "user:1", "--dry-run").stdout
    told = json.loads(
        run("connect", "sandbox", "--scope", "user:1", "--grant", "items.read", "--dry-run", "--json").stdout
    )
    assert told["grants"] == ["items.read"]
    assert (told["dry_run"], told["provider"], told["auth"]) == (True, "sandbox", "oauth2_auth_code")
    assert sandbox.requests().get("authorize", 0) == 0


def test_port_that_is_taken_is_named(connected_config: Path, sandbox: SandboxProcess, run: Run) -> None:
    taken = str(urlsplit(sandbox.url).port)
    refused = run("connect", "sandbox", "--scope", "user:1", "--no-browser", "--port", taken, code=2).stderr
    assert f"127.0.0.1:{taken}" in refused
    assert "another --port" in refused


def test_unknown_provider_and_wrong_scope_are_told(connected_config: Path, run: Run) -> None:
    assert "Did you mean 'sandbox'?" in run("connect", "sandbx", "--scope", "user:1", code=1).stderr
    assert "'user' or 'org', not 'team'" in run("connect", "sandbox", "--scope", "team:1", code=2).stderr
    assert "'user:ID' or 'org:ID'" in run("connect", "sandbox", "--scope", "1", code=2).stderr


def test_reconsent_asks_for_more_and_show_tells_what_is_granted_and_missing(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    made = connect("--grant", "items.write")
    before = json.loads(run("connections", "show", made["id"], "--json").stdout)["grants"]
    assert (before["requested"], before["granted"], before["missing"]) == (["items.write"], ["items.write"], [])
    assert before["capabilities"]["items.read"]["missing"] == ["items.read"]

    would = run("connections", "reconsent", made["id"], "--grant", "items.read", "--dry-run").stdout
    assert would.startswith("Would open the consent page for items.write, items.read of sandbox")
    assert json.loads(run("connections", "show", made["id"], "--json").stdout)["grants"] == before

    sandbox.set(approve_scopes=["items.write"])
    try:
        again = reconsent(made["id"], "--grant", "items.read", "--json")
    finally:
        sandbox.set(approve_scopes=None)
    assert (again["id"], again["status"]) == (made["id"], "active")
    shown = run("connections", "show", made["id"]).stdout
    assert re.search(r"^requested +items\.write, items\.read$", shown, re.MULTILINE)
    assert re.search(r"^granted +items\.write$", shown, re.MULTILINE)
    assert re.search(r"^missing +items\.read$", shown, re.MULTILINE)
    assert re.search(r"^items\.read +blocked: the connection was not granted items\.read$", shown, re.MULTILINE)

    reconsent(made["id"], "--json")
    after = json.loads(run("connections", "show", made["id"], "--json").stdout)["grants"]
    assert (after["granted"], after["missing"]) == (["items.write", "items.read"], [])


def test_reconsent_of_what_was_disconnected_is_refused(connected_config: Path, run: Run) -> None:
    made = connect()
    run("connections", "disconnect", made["id"], "--yes")
    refused = run("connections", "reconsent", made["id"], "--no-browser", code=1)
    assert refused.stderr.startswith("error: ")
    assert "`go-services connect`" in refused.stderr


def reconsent(*args: str) -> dict[str, str]:
    process = subprocess.Popen(
        [COMMAND, "connections", "reconsent", "--no-browser", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("Consent here: "), line + process.stderr.read()
    with urllib.request.urlopen(line.removeprefix("Consent here: ").strip(), timeout=30) as page:
        assert page.status == 200
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    made: dict[str, str] = json.loads(out)
    return made
