"""Several operating system processes on one file."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from go_services_core.testing.checks.store_queues import delivery
from go_services_store_sqlite.store import SqliteStore

WORKER = Path(__file__).with_name("worker.py")


def start(path: Path, task: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(path), task, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_two_processes_claim_each_row_once(path: Path, store: SqliteStore) -> None:
    accepted = [(await store.queues.accept(delivery(f"d{number}"))).id for number in range(200)]
    workers = [start(path, "claim", f"w{number}") for number in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    claimed: list[list[str]] = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        claimed.append(out.split())
    assert sorted(claimed[0] + claimed[1]) == sorted(accepted)
    assert [item for item in (await store.queues.list("inbox", limit=500)).items if item.status != "processed"] == []


async def test_two_processes_migrate_a_new_file_at_once(path: Path) -> None:
    workers = [start(path, "claim", f"w{number}") for number in range(3)]
    for worker in workers:
        out, _ = worker.communicate("go\n", timeout=60)
        assert (worker.returncode, out) == (0, "ready\n")
    store = SqliteStore(path)
    assert await store.migrate() == []


@pytest.mark.chaos
async def test_killed_writer_loses_nothing_that_it_acknowledged(path: Path, chaos: Any) -> None:
    acknowledged: list[str] = []
    for round_ in range(chaos.rounds(4, 200)):
        worker = start(path, "accept", f"r{round_}")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        for _ in range(chaos.random.randrange(1, 300)):
            acknowledged.append(worker.stdout.readline().strip())
        worker.send_signal(signal.SIGKILL)
        rest, _ = worker.communicate(timeout=60)
        acknowledged += rest.splitlines()[:-1]  # the last line may be cut
        assert worker.returncode == -signal.SIGKILL
        reader = sqlite3.connect(path)
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = {name for (name,) in reader.execute("SELECT delivery_id FROM service_webhook_deliveries")}
        reader.close()
        assert set(acknowledged) <= stored
    store = SqliteStore(path)
    await store.open()
    assert (await store.queues.accept(delivery(acknowledged[0]))).duplicate
    await store.aclose()
