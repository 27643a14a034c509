"""The demo: every step against a real provider, the same shape each time, and a folder that survives being killed."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from go_services_core.demo import run
from go_services_core.demo.steps import STEPS, Step, StepFailed
from go_services_core.errors import ConfigError

IDS = [
    "migrate", "connect", "consent", "callback", "call", "expire", "refresh", "two-workers",
    "crash-after-rotation", "keyed-retry", "shared-budget", "webhook", "event", "kill-worker",
    "dead-letter", "rotate-key", "backend-down", "disconnect", "no-plaintext",
]  # fmt: skip
ON_ONE_WORKER = pytest.mark.xdist_group("demo")
"""Of pytest-xdist: where one complete run is made for all of them."""
FEW = IDS[: IDS.index("callback") + 1]
"""The steps that the others need: they make a connection."""
PROGRAM = """
import sys
from pathlib import Path
from go_services_core.demo import run
print("begun", flush=True)
sys.exit(run(json=True, keep=Path(sys.argv[1]), echo=print))
"""


def outcome(keep: Path | None = None) -> tuple[int, dict]:
    lines: list[str] = []
    code = run(json=True, keep=keep, echo=lines.append)
    (text,) = lines
    return code, json.loads(text)


def only(monkeypatch: pytest.MonkeyPatch, ids: Collection[str], changed: Step | None = None) -> None:
    """Run the steps of these ids; ``changed``, a step of our own, in the place of the one of its id."""
    steps = [changed if changed and step.id == changed.id else step for step in STEPS if step.id in ids]
    monkeypatch.setattr(sys.modules["go_services_core.demo.run"], "STEPS", steps)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The folder and the outcome of one complete run, which the tests share: it takes a while."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "keys.toml.new").write_text("half")  # as a killed run leaves it
    code, found = outcome(folder)
    assert code == 0, found["steps"][-1]
    return folder, found


@ON_ONE_WORKER
def test_every_step_passes_and_the_outcome_has_its_shape(whole):
    _, found = whole
    assert list(found) == ["ok", "steps", "database", "provider_requests"]
    assert found["ok"] is True
    assert [step["id"] for step in found["steps"]] == IDS == [step.id for step in STEPS]
    for step in found["steps"]:
        assert list(step) == ["id", "name", "ok", "ms", "detail"]
        assert step["ok"] is True
        assert isinstance(step["ms"], float)
        assert step["name"]
        assert step["detail"]
    assert found["database"].startswith("sqlite:///")
    requests = found["provider_requests"]
    assert requests.pop("items.list") > 24  # 21 in steps, 2 around the outage, and those that went on meanwhile
    assert requests == {"authorize": 3, "items.create": 2, "revoke": 2, "token": 7, "userinfo": 5}


def test_folder_of_its_own_is_removed_in_the_end(monkeypatch):
    only(monkeypatch, FEW)
    code, found = outcome()
    assert code == 0
    assert not Path(found["database"].removeprefix("sqlite:///")).parent.exists(), "its own folder is left behind"


def test_lines_for_people_name_each_step_and_the_folder(tmp_path, monkeypatch):
    only(monkeypatch, FEW)
    lines: list[str] = []
    assert run(json=False, keep=tmp_path, echo=lines.append) == 0
    for step, line in zip((step for step in STEPS if step.id in FEW), lines, strict=False):
        assert line.startswith("ok ")
        assert step.name in line
        assert " ms " in line
    assert any(str(tmp_path) in line for line in lines)


@ON_ONE_WORKER
def test_folder_can_be_used_again_and_by_the_other_commands(whole, tmp_path, monkeypatch):
    """Again without the steps that wait for leases, which the demo that was killed repeats."""
    folder = tmp_path / "again"
    shutil.copytree(whole[0], folder)
    check_folder(folder)
    only(monkeypatch, set(IDS) - {"two-workers", "crash-after-rotation", "kill-worker"})
    code, found = outcome(folder)
    assert (code, found["ok"]) == (0, True), found["steps"][-1]
    check_folder(folder)
    listed = command(folder, "connections", "list", "--json")
    assert "disconnected" in listed


def check_folder(folder: Path) -> None:
    """What a complete run leaves, whether or not there were others before it."""
    assert not list(folder.glob("*.new"))
    assert {path.name for path in folder.iterdir()} >= {"keys.toml", "client.secret", "demo.db", "go-services.toml"}
    for secret in ("keys.toml", "client.secret", "webhook.secret"):
        assert (folder / secret).stat().st_mode & 0o077 == 0
    with sqlite3.connect(folder / "demo.db") as database:
        assert database.execute(
            "SELECT count(*), sum(status = 'disconnected') FROM service_connections"
        ).fetchall() == [(1, 1)]
    database.close()


def test_step_that_fails_gives_exit_1_and_its_remedy(monkeypatch):
    async def failing(stage):
        raise StepFailed("The consent did not work.")

    only(monkeypatch, FEW, Step(id="consent", name="The person consents", run=failing, remedy="Do this."))
    code, found = outcome()
    assert code == 1
    assert found["ok"] is False
    assert [step["ok"] for step in found["steps"]] == [True, True, False]
    assert found["steps"][-1]["detail"] == "The consent did not work. Do this."
    lines: list[str] = []
    assert run(json=False, keep=None, echo=lines.append) == 1
    assert any(line.startswith("FAIL") and "Do this." in line for line in lines)


def test_secret_in_the_database_fails_the_last_step(monkeypatch):
    """The scan must be able to find something, or it proves nothing."""
    kept = STEPS[IDS.index("disconnect")]

    async def leaking(stage):
        detail = await kept.run(stage)
        secret = min(stage.sandbox.issued_secrets())
        with sqlite3.connect(stage.files.database) as database:
            database.execute("INSERT INTO service_meta VALUES ('leak', ?, '2026')", (secret,))
        database.close()
        return detail

    only(
        monkeypatch, [*FEW, kept.id, "no-plaintext"], Step(id=kept.id, name=kept.name, run=leaking, remedy=kept.remedy)
    )
    code, found = outcome()
    assert code == 1
    assert found["steps"][-1]["id"] == "no-plaintext"
    assert "holds a secret in clear" in found["steps"][-1]["detail"]


def test_folder_with_another_key_fails_the_first_step_and_names_the_keys(tmp_path, monkeypatch):
    from go_services_secrets_appkey.key import generate_key

    only(monkeypatch, FEW)
    assert outcome(tmp_path)[0] == 0
    (tmp_path / "keys.toml").write_text(f'[[keys]]\nstate = "primary"\nkey = "{generate_key().reveal()}"\n')
    code, found = outcome(tmp_path)
    assert code == 1
    (step,) = found["steps"]
    assert (step["id"], step["ok"]) == ("migrate", False)
    assert step["detail"].count("app-key-") >= 2


def test_missing_plugins_are_named_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "peewee", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="standard"):
        run(json=True, keep=None, echo=print)


def command(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("go-services"), "--config", folder / "go-services.toml", *args],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def demo(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.chaos
@ON_ONE_WORKER
def test_killed_demo_leaves_a_clean_database_and_can_be_repeated(whole, tmp_path, chaos):
    """Killed without warning at random moments: nothing is half written, and the next run works."""
    from go_services_store_sqlite.store import SqliteStore

    seed = chaos.seed
    length = sum(step["ms"] for step in whole[1]["steps"]) / 1000
    folder = tmp_path / "killed"
    killed = 0
    for _ in range(chaos.rounds(2, 50)):
        with demo(folder) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chaos.random.uniform(0.0, length))
            process.send_signal(signal.SIGKILL)
            process.stdout.read()
        killed += process.returncode == -signal.SIGKILL
        if (folder / "demo.db").exists():
            status = asyncio.run(SqliteStore(folder / "demo.db").status())
            assert status.problems == (), f"seed {seed}"
    assert killed, f"seed {seed}: no run was killed"
    with demo(folder) as last:
        assert last.stdout is not None
        said = last.stdout.read()
    assert last.returncode == 0, f"seed {seed}: {said}"
    check_folder(folder)
    assert json.loads(command(folder, "store", "status", "--json"))["problems"] == []


@ON_ONE_WORKER
def test_changed_key_is_the_one_that_everything_is_under(whole):
    """P54."""
    folder, found = whole
    detail = found["steps"][IDS.index("rotate-key")]["detail"]
    status = json.loads(command(folder, "secrets", "status", "--json"))
    states = {key["key_id"]: (key["state"], key["rows"]) for key in status["keys"]}
    assert sorted(state for state, _ in states.values()) == ["primary", "retired"]
    assert all(rows == 0 for state, rows in states.values() if state == "retired")
    assert status["primary"]["key_id"] in detail
    assert {use["key_id"] for use in status["uses"]} == {status["primary"]["key_id"]}
    assert status["key_check"] == status["primary"]


def test_outage_step_fails_where_a_call_gets_through_without_its_key(monkeypatch):
    """The step must be able to fail, or it proves nothing."""
    from go_services_core.demo.key_service import KeyService

    async def stays(self):
        """The service goes on."""

    stop = KeyService.stop
    monkeypatch.setattr(KeyService, "stop", stays)
    monkeypatch.setattr(KeyService, "__aexit__", lambda self, *_: stop(self))
    only(monkeypatch, [*FEW, "backend-down"])
    code, found = outcome()
    assert code == 1
    assert found["steps"][-1]["id"] == "backend-down"
    assert "without its credential's key" in found["steps"][-1]["detail"]


def test_step_with_two_processes_fails_where_the_token_is_sent_twice(monkeypatch):
    """P10. The step must be able to fail, or it proves nothing."""
    from go_services_core.demo.worker import Worker
    from go_services_core.testing.sandbox import Sandbox

    running, enter, go = [], Sandbox.__aenter__, Worker.go

    async def entered(self):
        running.append(self)
        return await enter(self)

    async def once_more(self):
        running[0].requests["token"] += 1
        return await go(self)

    monkeypatch.setattr(Sandbox, "__aenter__", entered)
    monkeypatch.setattr(Worker, "go", once_more)
    only(monkeypatch, [*FEW, "two-workers"])
    code, found = outcome()
    assert code == 1
    assert found["steps"][-1]["id"] == "two-workers"
    assert "sent 3 times" in found["steps"][-1]["detail"]


def test_keyed_step_fails_where_the_item_is_created_twice(monkeypatch):
    """P80. The step must be able to fail, or it proves nothing."""
    from go_services_core.testing.sandbox.items import Items

    create = Items.create

    def forgetful(self, name, *, body, owner, key):
        return create(self, name, body=body, owner=owner, key=None)

    monkeypatch.setattr(Items, "create", forgetful)
    only(monkeypatch, [*FEW, "keyed-retry"])
    code, found = outcome()
    assert code == 1
    assert found["steps"][-1]["id"] == "keyed-retry"
    assert "2 items were created" in found["steps"][-1]["detail"]


def test_shared_budget_step_fails_where_the_processes_ask_more_often_than_is_allowed(monkeypatch):
    from go_services_core.demo import files

    told = files.CONFIG.replace("units = 10, seconds = 3600 }}]", 'units = 16, seconds = 3600 }}], learn = ["google"]')
    monkeypatch.setattr(files, "CONFIG", told)
    only(monkeypatch, [*FEW, "shared-budget"])
    code, found = outcome()
    assert code == 1
    assert found["steps"][-1]["id"] == "shared-budget"
    assert "rate limiting" in found["steps"][-1]["detail"]
