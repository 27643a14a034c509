"""Jobs, budgets, cursors and ledgers between operating system processes on one database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import psycopg

from go_services_core.testing.checks.store import established
from go_services_core.testing.checks.store_budgets import REST
from go_services_core.testing.checks.store_jobs import job
from go_services_core.testing.checks.store_leases import dispatch
from go_services_core.testing.checks.store_sealed import counted, listed
from go_services_core.testing.races import STEPS, TURNS, UNITS, all_stopped
from go_services_store_postgres.store import PostgresStore

WORKER = Path(__file__).with_name("race_worker.py")


def start(url: str, race: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), url, race, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def finish(workers: list[subprocess.Popen[str]]) -> list[str]:
    """Let them all begin; what they have acknowledged."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    answers = await asyncio.gather(*(asyncio.to_thread(worker.communicate, "go\n", timeout=120) for worker in workers))
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return list(chain(*(out.split() for out, _ in answers)))


async def test_twenty_tasks_in_each_of_four_processes_claim_each_job_once(url: str, store: PostgresStore) -> None:
    wanted = [job() for _ in range(400)]
    await asyncio.gather(*map(store.queues.enqueue, wanted))
    claimed = await finish([start(url, "jobs", f"w{number}") for number in range(4)])
    assert sorted(claimed) == sorted(one.id for one in wanted)
    assert [item for item in (await store.queues.list("jobs", limit=500)).items if item.status != "succeeded"] == []


async def test_processes_share_one_budget(url: str, store: PostgresStore) -> None:
    assert len(await finish([start(url, "budget", f"w{number}") for number in range(4)])) == UNITS
    held = await store.budgets.peek(REST)
    assert held is not None
    assert held.remaining == 0


async def test_fifty_workers_with_one_unit_left_make_one_call(url: str, store: PostgresStore) -> None:  # P84
    assert len(await finish([start(url, "last_unit", f"w{number}") for number in range(5)])) == 1


async def test_processes_that_lease_blocks_spend_every_unit_once(url: str, store: PostgresStore) -> None:
    assert len(await finish([start(url, "spend", f"w{number}") for number in range(4)])) == UNITS


async def test_scope_of_another_process_is_not_starved(url: str, store: PostgresStore) -> None:
    made = Counter(await finish([start(url, "share", name) for name in ("busy", "busy", "busy", "quiet")]))
    assert made["quiet"] == 15
    assert made["busy"] <= 50  # half of each window, besides the first and the last


async def test_each_step_of_a_cursor_is_won_by_one_process(url: str, store: PostgresStore) -> None:
    made = await established(store)
    won = sorted(int(step) for step in await finish([start(url, "cursors", made.id) for _ in range(3)]))
    assert won == list(range(1, len(won) + 1))
    assert len(won) >= STEPS


async def test_rewrapping_processes_lose_nothing_that_is_refreshed_or_disconnected_meanwhile(
    url: str, store: PostgresStore
) -> None:
    made = [(await established(store, f"a{number}")).id for number in range(30)]
    workers = [start(url, "refresh", "r"), start(url, "rewrap", "w1"), start(url, "rewrap", "w2")]
    said = Counter(await finish(workers))
    assert said.total() > 40
    ended = [id_ for id_ in made if said[id_]]
    assert sorted(ended) == sorted(made)[::3]
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
    with psycopg.connect(url) as connection:
        seen = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert seen.fetchone() == (0,)


async def test_processes_that_stop_and_renew_connections_agree_on_one_event(url: str, store: PostgresStore) -> None:
    made = [(await established(store, f"a{number}")).id for number in range(40)]
    said = await finish([start(url, "reconsent", name) for name in ("renew", "w1", "w2")])
    await all_stopped(store, made, said)


async def test_what_a_killed_process_began_is_taken_over_after_its_time(url: str, store: PostgresStore) -> None:
    worker = start(url, "begin", "killed")
    assert worker.stdout is not None
    assert [worker.stdout.readline(), worker.stdout.readline()] == ["ready\n", "new new True\n"]
    assert (await store.once.begin("command", "key", digest=b"d", owner="next", seconds=30)).state == "running"
    worker.kill()
    await asyncio.to_thread(worker.communicate, timeout=60)
    while (begun := await store.once.begin("command", "key", digest=b"d", owner="next", seconds=30)).state != "new":
        await asyncio.sleep(0.05)
    while (sent := await store.once.begin_dispatch(dispatch("key"), owner="next", seconds=30)).state != "new":
        await asyncio.sleep(0.05)
    while (lease := await store.leases.acquire("key", owner="next", seconds=30)) is None:
        await asyncio.sleep(0.05)
    assert (begun.fence, sent.fence, lease.fence) == (2, 2, 2)
