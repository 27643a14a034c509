"""``go-services connections import``, ``export`` and ``disconnect`` with what it leaves, against a real provider."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run
from .test_connect import connect

PASSPHRASE = "unfold marble otter seventeen kiosk lantern"


@pytest.fixture
def tokens(connected_config: Path, sandbox: SandboxProcess) -> dict[str, str]:
    """A line for the tokens of an account that is connected for ``user:1``."""
    connect()
    held = {secret.split("_")[1]: secret for secret in sandbox.issued_secrets()}
    return {
        "provider": "sandbox",
        "scope": "user:2",
        "access_token": held["at"],
        "refresh_token": held["rt"],
        "granted": ["items.read"],
    }


def written(folder: Path, *lines: Any) -> str:
    file = folder / "tokens.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(file)


def listed(run: Run, scope: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("connections", "list", "--scope", scope, "--json").stdout)[
        "connections"
    ]
    return found


def test_lines_are_imported_and_a_repeat_changes_nothing(
    tokens: dict[str, str], connected_config: Path, run: Run, sandbox: SandboxProcess
) -> None:
    file = written(connected_config, tokens, "", {**tokens, "scope": "org:acme"})
    would = run("connections", "import", file, "--dry-run")
    assert "line 1: sandbox user:2 " in would.stdout
    assert would.stderr.endswith("Would be: 2 new, 0 renewed, 0 unchanged, 0 failed\n")
    assert listed(run, "user:2") == []
    before = sandbox.requests()["token"]
    done = run("connections", "import", file)
    assert done.stderr.endswith("2 new, 0 renewed, 0 unchanged, 0 failed\n")
    (made,) = listed(run, "user:2")
    assert made["status"] == "active"
    assert made["id"] in done.stdout
    assert "line 3: sandbox org:acme" in done.stdout
    assert sandbox.requests()["token"] == before
    assert json.loads(run("call", made["id"], "items.list", "--json").stdout)["status"] == 200
    again = [json.loads(line) for line in run("connections", "import", file, "--json").stdout.splitlines()]
    assert [(one["line"], one["outcome"]) for one in again] == [(1, "unchanged"), (3, "unchanged")]
    assert again[0]["connection"] == made["id"]
    printed = would.stdout + would.stderr + done.stdout + done.stderr
    assert not [secret for secret in sandbox.issued_secrets() if secret in printed]


def test_line_that_fails_is_told_and_the_others_go_on(
    tokens: dict[str, str], connected_config: Path, run: Run, sandbox: SandboxProcess
) -> None:
    lines = (
        {**tokens, "provider": "sandbux"},
        '{"provider": "sandbox", ',
        {**tokens, "access_token": "sbx_at_wrong-0123456789"},
        {**tokens, "expires_at": "tomorrow"},
        tokens,
    )
    file = written(connected_config, *lines)
    done = run("connections", "import", file, "--json", code=1)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["outcome"] for one in told] == ["failed"] * 4 + ["new"]
    assert "Did you mean 'sandbox'" in told[0]["hint"] + told[0]["error"]
    assert told[3]["field"] == "expires_at"
    assert told[2]["code"] == "SERVICE_UNAUTHORIZED"
    assert done.stderr.endswith("1 new, 0 renewed, 0 unchanged, 4 failed\n")
    first = run("connections", "import", file, "--fail-fast", code=1)
    assert first.stdout == ""
    assert first.stderr.startswith("line 1: failed\nerror: ")
    assert first.stderr.endswith("0 new, 0 renewed, 0 unchanged, 1 failed\n")
    printed = done.stdout + done.stderr + first.stderr
    assert "0123456789" not in printed
    assert not [secret for secret in sandbox.issued_secrets() if secret in printed]


def test_standard_input_and_accounts_that_nobody_confirms(tokens: dict[str, str], run: Run) -> None:
    line = json.dumps({**tokens, "account": "acc-7"}) + "\n"
    run("connections", "import", "-", input=line, code=1)
    assert listed(run, "user:2") == []
    run("connections", "import", "-", "--no-verify", input=line)
    assert [one["account"] for one in listed(run, "user:2")] == ["acc-7"]


def test_long_file_shows_progress_on_standard_error(connected_config: Path, run: Run) -> None:
    line = {"provider": "keyed", "scope": "user:1", "access_token": "k" * 20}
    file = written(connected_config, *({**line, "account": f"a{number}"} for number in range(101)))
    done = run("connections", "import", file, "--no-verify")
    assert "100 lines\n" in done.stderr
    assert done.stderr.endswith("101 new, 0 renewed, 0 unchanged, 0 failed\n")


@pytest.mark.parametrize(
    "arguments", [(), ("-", "--bundle", "b"), ("-", "--key", "env:K"), ("--bundle", "b", "--fail-fast")], ids=repr
)
def test_what_is_imported_is_named_once(connected_config: Path, run: Run, arguments: tuple[str, ...]) -> None:
    (connected_config / "b").write_bytes(b"")
    run("connections", "import", *arguments, input="", code=2)


def test_scope_moves_to_another_database_in_a_file_of_its_own_key(
    tokens: dict[str, str], connected_config: Path, run: Run, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUNDLE_KEY", PASSPHRASE)
    out = connected_config / "user.bundle"
    arguments = ("connections", "export", "--scope", "user:1", "--out", str(out), "--key", "env:BUNDLE_KEY")
    assert run(*arguments, "--dry-run").stdout == f"Would write 1 connection of user:1 to {out}.\n"
    assert not out.exists()
    assert json.loads(run(*arguments, "--json").stdout) == {
        "file": str(out),
        "connections": 1,
        "without_secrets": [],
    }
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    content = out.read_bytes()
    assert not [secret for secret in sandbox.issued_secrets() if secret.encode() in content]
    assert not list(connected_config.glob(".user.bundle*"))
    assert "--force" in run(*arguments, code=1).stderr
    assert out.read_bytes() == content
    out.chmod(0o644)
    run(*arguments, "--force")
    assert (stat.S_IMODE(out.stat().st_mode), out.read_bytes() != content) == (0o600, True)

    typo = connected_config / "typo.bundle"
    nobody = ("connections", "export", "--scope", "user:typo", "--out", str(typo), "--key", "env:BUNDLE_KEY")
    assert "no connection of user:typo" in run(*nobody, code=1).stderr
    assert not typo.exists()

    (old,) = listed(run, "user:1")
    for part in ("go-services.db", "go-services.db-wal", "go-services.db-shm"):
        (connected_config / part).unlink(missing_ok=True)
    (connected_config / "go-services.key").unlink()
    key = run("secrets", "generate-key").stdout
    (connected_config / "go-services.key").write_text(key)
    (connected_config / "go-services.key").chmod(0o600)
    run("store", "migrate")
    into = ("connections", "import", "--bundle", str(out), "--key", "env:BUNDLE_KEY")
    assert "new" in run(*into, "--dry-run").stdout
    assert listed(run, "user:1") == []
    (made,) = json.loads(run(*into, "--json").stdout)["connections"]
    assert (made["outcome"], made["connection"]) == ("new", old["id"])
    assert json.loads(run("call", old["id"], "items.list", "--json").stdout)["status"] == 200
    assert "unchanged" in run(*into).stdout

    monkeypatch.setenv("BUNDLE_KEY", PASSPHRASE + " oyster")
    assert "another key or passphrase" in run(*into, code=2).stderr
    out.write_bytes(out.read_bytes()[:-20])
    monkeypatch.setenv("BUNDLE_KEY", PASSPHRASE)
    assert "end of the export bundle" in run(*into, code=2).stderr


def test_export_into_a_folder_that_is_not_there_is_refused_before_a_key_is_asked_for(
    connected_config: Path, run: Run
) -> None:
    refused = run("connections", "export", "--scope", "user:1", "--out", "nowhere/b", code=1)
    assert "There is no folder nowhere." in refused.stderr
    assert "Passphrase" not in refused.stderr


def test_disconnect_of_one_of_two_on_a_grant_says_once_why_nothing_was_revoked(
    connected_config: Path, run: Run
) -> None:
    file = connected_config / "go-services.toml"
    file.write_text(file.read_text().replace("revocation_url =", 'revocation_scope = "grant", revocation_url ='))
    made = connect()
    connect("--scope", "user:2")
    done = run("connections", "disconnect", made["id"], "--yes").stdout
    assert "Not revoked at the provider: that would end connection" in done


def test_dry_runs_print_json_for_programs(connected_config: Path, run: Run) -> None:
    made = connect()
    for command in ("refresh", "disconnect", "reconsent"):
        would = json.loads(run("connections", command, made["id"], "--dry-run", "--json").stdout)
        assert (would["dry_run"], would["connection"]["id"]) == (True, made["id"])
    assert would["grants"] == ["items.read", "items.write"]


def test_refresh_says_that_it_renewed(connected_config: Path, run: Run) -> None:
    made = connect()
    said = run("connections", "refresh", made["id"]).stdout
    assert said.startswith(f"Renewed the token of sandbox {made['account']} for user:1.\n")
    assert json.loads(run("connections", "refresh", made["id"], "--json").stdout)["id"] == made["id"]


def test_passphrase_is_asked_for_and_a_key_is_never_an_argument(connected_config: Path, run: Run) -> None:
    connect()
    out = ("connections", "export", "--scope", "user:1", "--out", "b")
    asked = run(*out, input=PASSPHRASE + "\n")
    assert "Passphrase" in asked.stderr
    assert "unchanged" in run("connections", "import", "--bundle", "b", input=PASSPHRASE + "\n").stdout
    refused = run(*out, "--force", "--key", PASSPHRASE, code=2)
    assert PASSPHRASE not in refused.stderr
    assert "env:" in refused.stderr
    weak = run(*out, "--force", input="secret\n", code=1)
    assert "The passphrase" in weak.stderr


def test_disconnect_says_that_its_revocation_is_open_and_show_tells_why(
    connected_config: Path, run: Run, sandbox: SandboxProcess
) -> None:
    made = connect()
    assert json.loads(run("connections", "show", made["id"], "--json").stdout)["pending_revocations"] == []
    sandbox.set_fault("revoke", "503")
    ended = json.loads(run("connections", "disconnect", made["id"], "--yes", "--json").stdout)
    assert (ended["revoked"], ended["pending"], ended["overtaken"], ended["cancelled"]) == (False, True, False, [])
    assert "it is tried again" in ended["detail"]
    (pending,) = json.loads(run("connections", "show", made["id"], "--json").stdout)["pending_revocations"]
    assert (pending["version"], pending["attempts"], pending["error"]) == (1, 0, "")
    assert "Version 1 is still to be revoked" in run("connections", "show", made["id"]).stdout


def test_disconnect_prints_what_became_of_the_tokens(connected_config: Path, run: Run) -> None:
    made = connect()
    done = run("connections", "disconnect", made["id"], "--yes")
    assert done.stdout.endswith("Revoked at the provider.\n")
