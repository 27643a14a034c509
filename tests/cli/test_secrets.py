"""``go-services secrets``: keys looked at, made, changed and retired, with the real command on real files."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from go_services_core import Runtime
from go_services_core.config import Config

from ..runtime.sealed_rows import by_key, contents, sow
from .conftest import Install, Run

T = TypeVar("T")
TOML = """
[store]
url = "sqlite:///go-services.db"

[secrets.appkey]
keyring = "keys.toml"

[providers.keyed]
auth = {kind = "api_key"}
api = {base_url = "https://api.keyed.example"}
"""


def with_runtime(use: Callable[[Runtime], Awaitable[T]]) -> T:
    """What ``use`` gives, with the runtime of the working directory's configuration."""

    async def run() -> T:
        async with Runtime.open(Config.load(Path("go-services.toml"))) as runtime:
            return await use(runtime)

    return asyncio.run(run())


def keys(run: Run) -> dict[str, dict[str, Any]]:
    return {key["key_id"]: key for key in json.loads(run("secrets", "status", "--json").stdout)["keys"]}


def primary(run: Run) -> str:
    return str(json.loads(run("secrets", "status", "--json").stdout)["primary"]["key_id"])


@pytest.fixture
def ring(run: Run, folder: Path) -> Path:
    """A database with 30 sealed rows, and a keyring."""
    Path("go-services.toml").write_text(TOML)
    run("secrets", "generate-key", "--add")
    run("store", "migrate")
    with_runtime(lambda runtime: sow(runtime, 30, scopes=5))
    return folder


# --- making keys ----------------------------------------------------------------------------------------------------


def test_key_is_printed_without_configuration_and_without_database(run: Run, folder: Path) -> None:
    made = {run("secrets", "generate-key").stdout for _ in range(3)}
    assert len(made) == 3
    assert all(key.startswith("gsk1_") and key.count("\n") == 1 for key in made)
    assert list(folder.iterdir()) == []


def test_key_file_is_private_and_never_overwritten(run: Run, folder: Path) -> None:
    run("secrets", "generate-key", "--out", "dry.key", "--dry-run")
    assert not Path("dry.key").exists()
    said = run("secrets", "generate-key", "--out", "new.key", "--backend", "appkey")
    key = Path("new.key").read_text()
    assert key.startswith("gsk1_")
    assert stat.S_IMODE(Path("new.key").stat().st_mode) == 0o600
    assert key.strip() not in said.stdout + said.stderr
    assert "new.key exists already" in run("secrets", "generate-key", "--out", "new.key", code=2).stderr
    assert Path("new.key").read_text() == key


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--add", "--out", "x.key"), 2),
        (("--add", "--backend", "appkey"), 2),
        (("--backend", "apkey"), 4),
    ],
)
def test_key_for_nobody_is_not_made(run: Run, folder: Path, arguments: tuple[str, ...], code: int) -> None:
    run("secrets", "generate-key", *arguments, code=code)
    assert list(folder.iterdir()) == []


def test_first_key_of_a_keyring_needs_no_database(run: Run, folder: Path) -> None:
    Path("go-services.toml").write_text(TOML)
    assert run("secrets", "generate-key", "--add", "--dry-run").stdout.startswith("Would add ")
    assert not Path("keys.toml").exists()
    assert "primary" in run("secrets", "generate-key", "--add").stdout
    assert not Path("go-services.db").exists()


# --- changing keys --------------------------------------------------------------------------------------------------


def test_key_is_changed_from_the_first_to_the_second_and_retired(run: Run, ring: Path) -> None:
    """P54, P54b: add, rotate, rewrap, retire; a key that rows need is not retired."""
    before = with_runtime(contents)
    old = primary(run)
    material = Path("keys.toml").read_text().split('key = "')[1].split('"')[0]
    run("secrets", "generate-key", "--add")
    (new,) = keys(run).keys() - {old}
    assert keys(run)[new]["state"] == "decrypt-only"

    assert f"Would make key {new}" in run("secrets", "rotate", "--dry-run").stdout
    assert primary(run) == old
    rotated = json.loads(run("secrets", "rotate", "--json").stdout)
    assert (rotated["before"]["key_id"], rotated["after"]["key_id"]) == (old, new)
    assert (keys(run)[old]["rows"], keys(run)[new]["rows"]) == (30, 0)
    assert "30 rows are not under the primary key" in run("secrets", "status").stdout
    refused = run("secrets", "retire", old, code=1)
    assert "in use by 30 rows (30 credential)" in refused.stderr
    assert "go-services secrets rewrap" in refused.stderr
    assert "primary" in run("secrets", "retire", new, code=1).stderr

    assert "30 rows would be rewrapped" in run("secrets", "rewrap", "--dry-run").stdout
    assert keys(run)[old]["rows"] == 30
    report = json.loads(run("secrets", "rewrap", "--verify", "--json").stdout)
    assert report["complete"]
    assert (report["kinds"]["credential"]["done"], report["kinds"]["credential"]["verified"]) == (30, 30)
    assert (keys(run)[old]["rows"], keys(run)[new]["rows"]) == (0, 30)

    assert run("secrets", "retire", f"{old}:1", "--dry-run").stdout == f"Would retire {old}:1.\n"
    assert keys(run)[old]["state"] == "decrypt-only"
    run("secrets", "retire", f"{old}:1")
    assert keys(run)[old]["state"] == "retired"
    assert material not in Path("keys.toml").read_text()
    assert with_runtime(contents) == before
    assert "There" not in run("secrets", "check").stdout


def test_rewrap_and_reencrypt_say_what_they_did(run: Run, ring: Path) -> None:
    said = run("secrets", "rewrap", "--all", "--batch", "7", "--rate", "10000")
    assert said.stdout.splitlines()[-1].startswith("30 rows were rewrapped under key ")
    assert said.stderr == ""  # no bar where there is no terminal
    said = run("secrets", "reencrypt", "--all", "--no-verify")
    assert said.stdout.splitlines()[0].split() == ["ROWS", "DONE"]
    assert run("secrets", "reencrypt", "--all").stdout.splitlines()[0].split() == ["ROWS", "DONE", "VERIFIED"]
    assert run("secrets", "rewrap").stdout.splitlines()[1].split() == ["credential", "0", "30"]


def test_keys_in_the_settings_are_changed_by_hand_and_rewrapped(run: Run, ready: Path) -> None:
    with_runtime(lambda runtime: sow(runtime, 5, scopes=5))
    old = primary(run)
    assert "secrets.appkey.decrypt_only" in run("secrets", "rotate", code=1).stderr
    run("secrets", "generate-key", "--out", "new.key")
    run("config", "set", "secrets.appkey.key", "file:new.key")
    assert old in run("secrets", "status", code=1).stderr  # the wrong key alone is refused by name
    run("config", "set", "secrets.appkey.decrypt_only", '["file:go-services.key"]')
    run("secrets", "rewrap")
    run("config", "unset", "secrets.appkey.decrypt_only")
    assert (primary(run) != old, keys(run)[primary(run)]["rows"]) == (True, 5)
    run("doctor")


@pytest.mark.parametrize(
    "arguments", [("rewrap", "--batch", "0"), ("rewrap", "--rate", "0"), ("reencrypt", "--rate", "-1"), ("retire",)]
)
def test_what_makes_no_sense_is_a_usage_error(run: Run, ring: Path, arguments: tuple[str, ...]) -> None:
    run("secrets", *arguments, code=2)


def test_key_that_is_not_there_cannot_be_retired_or_made_primary(run: Run, ring: Path) -> None:
    for arguments in (("retire", "app-key-00000000"), ("retire", "app-key-00000000:3"), ("rotate",)):
        run("secrets", *arguments, code=1)
    run("secrets", "rotate", "--to", "app-key-00000000", code=1)


def test_bar_is_drawn_on_a_terminal(ring: Path) -> None:
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).with_name("go-services"), "secrets", "rewrap", "--all", "--verify"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        drawn = b""
        while b"60/60" not in drawn:
            drawn += os.read(ours, 4096)
        output = process.communicate(timeout=60)[0]
    os.close(ours)
    assert process.returncode == 0
    assert b"rewrap  [####" in drawn
    assert b"####" not in output


# --- looking --------------------------------------------------------------------------------------------------------


def test_check_has_a_line_each(run: Run, ring: Path) -> None:
    lines = run("secrets", "check").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "backend"],
        ["ok", "database"],
        ["ok", "keys"],
        ["ok", "credentials"],
    ]
    assert json.loads(run("secrets", "check", "--json").stdout)["ok"] is True


def test_row_that_cannot_be_read_is_a_state_everywhere(run: Run, ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P53."""
    monkeypatch.delenv("COLUMNS", raising=False)  # which would cut the lines
    with closing(sqlite3.connect("go-services.db", isolation_level=None)) as database:
        ((connection, payload),) = database.execute(
            "SELECT connection_id, encrypted_payload FROM service_credentials ORDER BY id LIMIT 1"
        ).fetchall()
        changed = payload[:-1] + bytes([payload[-1] ^ 1])
        database.execute(
            "UPDATE service_credentials SET encrypted_payload = ? WHERE connection_id = ?", (changed, connection)
        )
    said = run("secrets", "reencrypt", "--all", code=1).stdout
    assert f"of connection {connection}" in said
    assert "29 rows were" in said
    listed = json.loads(run("connections", "list", "--secret-state", "unreadable", "--json").stdout)["connections"]
    assert [one["id"] for one in listed] == [connection]
    assert "active (unreadable)" in run("connections", "list").stdout
    assert len(json.loads(run("connections", "list", "--secret-state", "ok", "--json").stdout)["connections"]) == 29
    found = {one["check"]: one for one in json.loads(run("doctor", "--json", code=1).stdout)["checks"]}
    assert "1 connection" in found["secrets"]["detail"]
    assert found["secrets"]["remedy"] == "Look at `go-services secrets status`."
    assert "1 connection cannot be opened" in run("secrets", "status").stdout
    assert f"FAIL  credentials  1 cannot be opened: {connection}" in run("secrets", "check", code=1).stdout
    with closing(sqlite3.connect("go-services.db", isolation_level=None)) as database:
        database.execute(
            "UPDATE service_credentials SET encrypted_payload = ? WHERE connection_id = ?", (payload, connection)
        )
    run("secrets", "check")
    run("doctor")


def test_window_that_ends_soon_is_told_with_the_remedy(run: Run, ring: Path) -> None:
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    with Path("go-services.toml").open("a") as file:
        file.write(f'[[secrets.appkey.windows]]\nkey = "{primary(run)}"\nencrypt_until = {soon}\n')
    (warning,) = json.loads(run("secrets", "status", "--json").stdout)["warnings"]
    assert primary(run) in warning
    assert f"note: {warning}" in run("secrets", "status").stdout
    (line,) = [line for line in run("secrets", "check", code=1).stdout.splitlines() if line.startswith("FAIL")]
    assert line.split()[1] == "keys"
    found = {one["check"]: one for one in json.loads(run("doctor", "--json", code=1).stdout)["checks"]}
    assert (found["secrets"]["detail"], found["keys"]["ok"]) == (warning, True)
    run("secrets", "rewrap", "--all")  # it is a warning: everything works


def test_backend_that_is_away_is_told_and_the_rows_are_counted(run: Run, folder: Path, install: Install) -> None:
    install(
        "secrets-remote",
        """
        from pathlib import Path

        from go_services_core import hookimpl
        from go_services_core.errors import BackendUnavailable
        from go_services_core.model import KeyRef
        from go_services_core.sealing import DataKey
        from go_services_core.refs import Ref
        from go_services_core.secret import SecretBytes
        from go_services_core.specs import SecretBackendSpec

        GS_CONTRACT = 1

        class Remote:
            id = "remote"
            async def generate(self, context):
                if Path("away").exists():
                    raise BackendUnavailable("The network is away.", hint="Look at the network.")
                return DataKey(plaintext=SecretBytes(bytes(range(32))), wrapped=bytes(range(32)), key=KeyRef("remote", "k", 1))
            async def unwrap(self, wrapped, key, context):
                return (await self.generate(context)).plaintext
            async def check(self):
                return (await self.generate(b"")).key
            async def aclose(self):
                pass

        def open_backend(settings, env):
            return Remote()

        @hookimpl
        def gs_secret_backends():
            yield SecretBackendSpec(id="remote", factory=Ref(f"{__name__}:open_backend"), sealer=Ref("go_services_envelope:Sealer"))
        """,
    )
    Path("go-services.toml").write_text(
        TOML.replace('[secrets.appkey]\nkeyring = "keys.toml"', '[secrets]\nbackend = "remote"')
    )
    run("store", "migrate")
    with_runtime(lambda runtime: sow(runtime, 3, scopes=1))
    assert "cannot be changed from here" in run("secrets", "rotate", code=1).stderr
    assert "made where they are kept" in run("secrets", "generate-key", code=1).stderr
    Path("away").touch()
    status = json.loads(run("secrets", "status", "--json").stdout)
    assert (status["primary"], status["problem"]) == (None, "The network is away. Look at the network.")
    assert [use["rows"] for use in status["uses"]] == [3]
    assert "problem    The network is away. Look at the network.\n" in run("secrets", "status").stdout
    assert "FAIL  backend" in run("secrets", "check", code=1).stdout
    assert "The network is away." in run("secrets", "rewrap", code=1).stderr
    run("config", "set", "secrets.at_start", "lazy")
    found = {one["check"]: one for one in json.loads(run("doctor", "--json", code=1).stdout)["checks"]}
    assert (found["keys"]["ok"], found["secrets"]["ok"], found["store"]["ok"]) == (False, False, True)
    Path("away").unlink()
    run("secrets", "check")
    run("doctor")


def test_rows_of_each_key_are_those_of_the_database(run: Run, ring: Path) -> None:
    assert {key: fields["rows"] for key, fields in keys(run).items()} == with_runtime(by_key)
