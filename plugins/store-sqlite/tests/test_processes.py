"""Several operating system processes on one file."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from go_services_core.testing.checks.store import established
from go_services_core.testing.checks.store_budgets import REST
from go_services_core.testing.checks.store_jobs import job
from go_services_core.testing.checks.store_leases import dispatch
from go_services_core.testing.checks.store_queues import delivery
from go_services_core.testing.checks.store_sealed import counted, listed
from go_services_core.testing.races import STEPS, TURNS, UNITS, all_stopped
from go_services_store_sqlite.store import SqliteStore

WORKER = Path(__file__).with_name("worker.py")


def start(path: Path, task: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), str(path), task, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(workers: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Let them all begin; what each of them has acknowledged."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = []
    for worker in workers:
        out, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        answers.append(out.split())
    return answers


async def test_two_processes_claim_each_row_once(path: Path, store: SqliteStore) -> None:
    accepted = [(await store.queues.accept(delivery(f"d{number}"))).id for number in range(200)]
    claimed = finish([start(path, "claim", f"w{number}") for number in range(2)])
    assert sorted(claimed[0] + claimed[1]) == sorted(accepted)
    assert [item for item in (await store.queues.list("inbox", limit=500)).items if item.status != "processed"] == []


async def test_twenty_tasks_in_each_of_four_processes_claim_each_job_once(path: Path, store: SqliteStore) -> None:
    wanted = [job() for _ in range(400)]
    for one in wanted:
        await store.queues.enqueue(one)
    claimed = finish([start(path, "jobs", f"w{number}") for number in range(4)])
    assert sorted(chain(*claimed)) == sorted(one.id for one in wanted)
    assert [item for item in (await store.queues.list("jobs", limit=500)).items if item.status != "succeeded"] == []


async def test_processes_share_one_budget(path: Path, store: SqliteStore) -> None:
    granted = finish([start(path, "budget", f"w{number}") for number in range(4)])
    assert len(list(chain(*granted))) == UNITS
    held = await store.budgets.peek(REST)
    assert held is not None
    assert held.remaining == 0


async def test_fifty_workers_with_one_unit_left_make_one_call(path: Path, store: SqliteStore) -> None:  # P84
    made = finish([start(path, "last_unit", f"w{number}") for number in range(5)])
    assert len(list(chain(*made))) == 1


async def test_processes_that_lease_blocks_spend_every_unit_once(path: Path, store: SqliteStore) -> None:
    made = finish([start(path, "spend", f"w{number}") for number in range(4)])
    assert len(list(chain(*made))) == UNITS


async def test_scope_of_another_process_is_not_starved(path: Path, store: SqliteStore) -> None:
    *busy, quiet = finish([start(path, "share", name) for name in ("busy", "busy", "busy", "quiet")])
    assert len(quiet) == 15
    assert len(list(chain(*busy))) <= 50  # half of each window, besides the first and the last


async def test_each_step_of_a_cursor_is_won_by_one_process(path: Path, store: SqliteStore) -> None:
    made = await established(store)
    won = finish([start(path, "cursors", made.id) for _ in range(3)])
    steps = sorted(int(step) for step in chain(*won))
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= STEPS


async def test_processes_that_stop_and_renew_connections_agree_on_one_event(path: Path, store: SqliteStore) -> None:
    made = [(await established(store, f"a{number}")).id for number in range(40)]
    said = finish([start(path, "reconsent", name) for name in ("renew", "w1", "w2")])
    await all_stopped(store, made, list(chain(*said)))


async def test_what_a_killed_process_began_is_taken_over_after_its_time(path: Path, store: SqliteStore) -> None:
    worker = start(path, "begin", "killed")
    assert worker.stdout is not None
    assert [worker.stdout.readline(), worker.stdout.readline()] == ["ready\n", "new new True\n"]
    running = await store.once.begin("command", "key", digest=b"d", owner="next", seconds=30)
    assert running.state == "running"
    worker.kill()
    worker.communicate(timeout=60)
    assert await store.leases.acquire("key", owner="next", seconds=30) is None
    while (running := await store.once.begin("command", "key", digest=b"d", owner="next", seconds=30)).state != "new":
        await asyncio.sleep(min(0.1, running.retry_in))
    assert running.fence == 2
    while (sent := await store.once.begin_dispatch(dispatch("key"), owner="next", seconds=30)).state != "new":
        await asyncio.sleep(min(0.1, sent.retry_in))
    assert sent.fence == 2
    while (lease := await store.leases.acquire("key", owner="next", seconds=30)) is None:
        await asyncio.sleep(0.05)
    assert lease.fence == 2


async def test_rewrapping_processes_lose_nothing_that_is_refreshed_or_disconnected_meanwhile(
    path: Path, store: SqliteStore
) -> None:
    made = [(await established(store, f"a{number}")).id for number in range(30)]
    workers = [start(path, "refresh", "r"), start(path, "rewrap", "w1"), start(path, "rewrap", "w2")]
    ended, first, second = finish(workers)
    assert len(ended) == 10
    assert len(first) + len(second) > 30
    assert await store.admin.verify() == []
    rows = await listed(store, "credential")
    versions = [(row.record_id, row.record_version) for row in rows]
    kept = [id_ for id_ in made if id_ not in ended]
    assert sorted(versions) == sorted((id_, version + 1) for id_ in kept for version in range(TURNS + 1))
    for row in rows:
        payload = f"ciphertext {row.record_id} {row.record_version}".encode()
        assert row.sealed.ciphertext.split(b"|")[0] == payload
    for id_ in kept:
        _, active = await store.connections.load(id_)
        assert active is not None
        assert active.version == TURNS + 1
    assert sum((await counted(store)).values()) == len(rows)


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
