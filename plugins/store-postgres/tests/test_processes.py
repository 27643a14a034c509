"""Several operating system processes on one database."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from go_services_core.testing.checks.store_queues import delivery, items
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore

WORKER = Path(__file__).with_name("worker.py")


def start(url: str, task: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), url, task, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def rows(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text.encode()).fetchall()


async def test_80_tasks_of_four_processes_claim_each_row_once(url: str, store: PostgresStore) -> None:
    accepted = await asyncio.gather(*(store.queues.accept(delivery(f"d{number}")) for number in range(600)))
    workers = [start(url, "claim", f"w{number}") for number in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed: list[str] = []
    for worker in workers:
        out, _ = await asyncio.to_thread(worker.communicate, timeout=60)
        assert worker.returncode == 0
        claimed += out.split()
    assert sorted(claimed) == sorted(answer.id for answer in accepted)
    assert len(await items(store, "inbox", "processed")) == 100
    assert rows(url, "SELECT DISTINCT status, attempts FROM service_webhook_deliveries") == [("processed", 1)]


async def test_three_processes_migrate_a_new_database_at_once(empty_url: str) -> None:
    workers = [start(empty_url, "claim", f"w{number}") for number in range(3)]
    for worker in workers:
        out, _ = await asyncio.to_thread(worker.communicate, "go\n", timeout=60)
        assert (worker.returncode, out) == (0, "ready\n")
    assert await PostgresStore(PostgresSettings(url=empty_url)).migrate() == []


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["accept", "establish"])
def test_killed_writer_loses_nothing_that_it_acknowledged_and_leaves_no_half(url: str, task: str, chaos: Any) -> None:
    acknowledged: set[str] = set()
    for round_ in range(chaos.rounds(2, 100)):
        worker = start(url, task, f"r{round_}")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        for _ in range(chaos.random.randrange(1, 300)):
            acknowledged.add(worker.stdout.readline().strip())
        worker.send_signal(signal.SIGKILL)
        rest, _ = worker.communicate(timeout=60)
        acknowledged.update(rest.splitlines()[:-1])  # the last line may be cut
        assert worker.returncode == -signal.SIGKILL
        if task == "accept":
            stored = rows(url, "SELECT delivery_id FROM service_webhook_deliveries")
        else:
            stored = rows(url, "SELECT external_account_id FROM service_connections")
            (parts,) = halves(url)  # one statement: a COMMIT that was on its way may still arrive
            assert len(set(parts)) == 1, parts
        assert acknowledged <= {name for (name,) in stored}


def halves(url: str) -> list[tuple[Any, ...]]:
    """How many there are of each thing that establishing a connection writes; equal numbers."""
    return rows(
        url,
        """SELECT (SELECT count(*) FROM service_connections),
          (SELECT count(*) FROM service_credentials c JOIN service_connections n ON n.id = c.connection_id),
          (SELECT count(*) FROM service_grant_snapshots s JOIN service_connections n ON n.id = s.connection_id),
          (SELECT count(*) FROM service_grant_events g JOIN service_connections n ON n.id = g.connection_id),
          (SELECT count(*) FROM service_lifecycle_outbox e JOIN service_connections n ON n.id = e.connection_id
            WHERE e.event_name = 'connection.established'),
          (SELECT count(*) FROM service_lifecycle_outbox e JOIN service_connections n ON n.id = e.connection_id
            WHERE e.event_name = 'grant.expanded')""",
    )
