"""``go-services worker``: runs until it is told to stop, and tells who works."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Install, Run

COMMAND = Path(sys.executable).with_name("go-services")
PLUGIN = """
    from go_services_core import Ref, hookimpl
    from go_services_core.specs import EventHandlerSpec

    GS_CONTRACT = 1

    async def hold(event, context):
        import asyncio
        print("holding", flush=True)
        await asyncio.sleep(3600)

    @hookimpl
    def gs_event_handlers():
        return [EventHandlerSpec(name="hold", events="*", handler=Ref(f"{__name__}:hold"))]
"""
EVENT = """INSERT INTO service_lifecycle_outbox (id, event_id, event_name, source, provider_id, scope_type, scope_id,
      payload, metadata, status, attempts, last_error, occurred_at, created_at, updated_at)
    VALUES ('e', 'e', 'made.up', 'runtime', 'p', 'org', 'o', '{}', '{}', 'committed', 0, '',
      '2099-01-01 00:00:00.000000', '2001-01-01 00:00:00.000000', '2001-01-01 00:00:00.000000')"""


@pytest.fixture
def ready(run: Run) -> Run:
    """A folder with a configuration and a database."""
    run("init")
    run("store", "migrate")
    return run


def statement(text: str) -> None:
    with sqlite3.connect("go-services.db") as connection:
        connection.execute(text)
    connection.close()


@contextmanager
def worker(*args: str) -> Iterator[subprocess.Popen[str]]:
    """A worker process that has said its first line."""
    process = subprocess.Popen(
        [COMMAND, "worker", "run", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def first(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_says_that_it_is_ready_and_ends_well_when_it_is_told_to(ready: Run, number: signal.Signals) -> None:
    with worker() as process:
        assert first(process) == f"Ready, process {process.pid}: all kinds of work."
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "Stopped: 0 done, 0 failed.\n", "")


def test_every_line_is_json_where_that_is_asked_for(ready: Run) -> None:
    with worker("--json", "--kinds", "inbox,outbox") as process:
        assert json.loads(first(process)) == {"event": "ready", "pid": process.pid, "kinds": ["inbox", "outbox"]}
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert json.loads(out) == {"event": "stopped", "done": 0, "failed": 0, "cut_off": []}


def test_log_is_lines_of_json_without_secrets(ready: Run) -> None:
    with worker("--json", "--log-level", "info") as process:
        assert json.loads(first(process))["event"] in ("ready", "log")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    lines = [json.loads(line) for line in out.splitlines()]
    (retention,) = [line for line in lines if line.get("logger") == "go_services.retention"]
    assert (retention["event"], retention["level"], retention["status"]) == ("log", "INFO", "success")
    assert lines[-1]["event"] == "stopped"


def test_work_that_outlives_the_grace_is_cut_off_and_the_exit_code_tells(ready: Run, install: Install) -> None:
    install("holder", PLUGIN)
    ready("config", "set", "worker.grace", "0.2")
    ready("worker", "run", "--once")  # makes the handler known
    statement(EVENT)
    with worker() as process:
        assert first(process).startswith("Ready")
        assert first(process) == "holding"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "Cut off after the grace, and given back: outbox." in err
        assert "Stopped: " in out


def test_second_signal_ends_it_there_and_then(ready: Run, install: Install) -> None:
    install("holder", PLUGIN)
    ready("worker", "run", "--once")
    statement(EVENT)
    with worker() as process:
        assert first(process).startswith("Ready")
        assert first(process) == "holding"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)  # the grace is 30 seconds
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


def test_status_fails_where_nobody_works_or_work_is_late(ready: Run) -> None:
    found = json.loads(ready("worker", "status", "--json", code=1).stdout)
    assert (found["ok"], found["processes"]) == (False, [])
    assert "go-services worker run" in ready("worker", "status", code=1).stdout
    with worker("--kinds", "retention") as process:
        assert first(process).startswith("Ready")
        found = json.loads(ready("worker", "status", "--json").stdout)
        assert (found["ok"], [(one["pid"], one["alive"]) for one in found["processes"]]) == (
            True,
            [(process.pid, True)],
        )
        assert [queue["queue"] for queue in found["queues"]] == ["inbox", "outbox", "jobs"]
        assert f"{process.pid}" in ready("worker", "status").stdout
        statement(EVENT)
        late = json.loads(ready("worker", "status", "--json", code=1).stdout)
        assert [queue["queue"] for queue in late["queues"] if queue["late"]] == ["outbox"]
        assert "late: outbox 1" in ready("doctor", code=1).stdout
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_once_does_what_is_due_and_ends(ready: Run) -> None:
    drained = json.loads(ready("worker", "run", "--once", "--json").stdout)
    assert drained == {"event": "drained", "deliveries": 0, "events": 0, "jobs": 0, "renewals": 0, "failed": 0}
    assert "--kinds" in ready("worker", "run", "--once", "--kinds", "inbox", code=2).stderr


def test_unknown_kind_is_a_usage_error(ready: Run) -> None:
    assert "There is no kind of work 'mail'" in ready("worker", "run", "--kinds", "mail", code=2).stderr
