"""What goes wrong around the store: disks that are full, processes that are killed, clocks that jump, other writers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from go_services_core.errors import LeaseLost, StoreUnavailable
from go_services_core.model import Sealed
from go_services_core.testing.checks.store import KEY, change, established
from go_services_core.testing.checks.store_queues import delivery, items, take
from go_services_store_sql.statement import Row, Statement, Steps
from go_services_store_sqlite.store import SqliteStore

WORKER = Path(__file__).with_name("fault_worker.py")
UNIT = """
SELECT c.id, max(v.version), count(v.id), sum(v.status = 'active'),
  (SELECT count(*) FROM service_lifecycle_outbox AS e
   WHERE e.connection_id = c.id AND e.event_name NOT LIKE 'grant.%'),
  (SELECT count(*) FROM service_grant_snapshots AS g WHERE g.connection_id = c.id)
FROM service_connections AS c LEFT JOIN service_credentials AS v ON v.connection_id = c.id GROUP BY c.id
"""
"""Connection, newest version, credentials, active ones, events, grant snapshots."""


def query(path: Path, text: str) -> list[tuple[Any, ...]]:
    reader = sqlite3.connect(path)
    try:
        return reader.execute(text).fetchall()
    finally:
        reader.close()


def check_units(path: Path) -> dict[str, int]:
    """That the file is sound and no unit is half there; the version that each connection is at."""
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []
    found = query(path, UNIT)
    for row in found:
        _, version, credentials, active, events, snapshots = row
        assert version == credentials == events == snapshots, row
        assert active == 1, row
    assert query(path, "SELECT count(*) FROM service_credentials") == [(sum(row[2] for row in found),)]
    told = query(path, "SELECT event_name LIKE 'grant.%', count(*) FROM service_lifecycle_outbox GROUP BY 1")
    grants = query(path, "SELECT count(*) FROM service_grant_events")
    assert dict(told) == {0: sum(row[4] for row in found), 1: grants[0][0]}
    return {row[0]: row[1] for row in found}


def start(path: Path, task: str, name: str, *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, str(WORKER), str(path), task, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# --- disk -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"this user cannot mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def large(name: str) -> Any:
    return delivery(name, sealed=Sealed(os.urandom(60_000), KEY))


async def fill(store: SqliteStore) -> tuple[set[str], list[BaseException]]:
    """Write from several callers until there is no space; what was acknowledged, and the errors."""
    acknowledged, errors = set(), []

    async def caller(name: str) -> None:
        for number in range(100):
            one = large(f"{name}-{number}")
            try:
                await store.queues.accept(one)
            except StoreUnavailable as error:
                errors.append(error)
                return
            acknowledged.add(one.id)

    await asyncio.gather(*(caller(f"c{number}") for number in range(6)))
    return acknowledged, errors


async def test_full_disk_is_a_typed_error_for_every_caller_and_passes(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    path = small_disk / "store.db"
    store = SqliteStore(path)
    await store.migrate()
    await store.open()
    made = await established(store)

    acknowledged, errors = await fill(store)
    assert acknowledged
    assert len(errors) == 6
    assert all("space" in str(error.hint) for error in errors if isinstance(error, StoreUnavailable))
    connected = {made.id}
    with pytest.raises(StoreUnavailable):
        for number in range(100):
            wanted = change(f"big-{number}")
            big = evolve(wanted, credential=evolve(wanted.credential, sealed=Sealed(os.urandom(200_000), KEY)))
            connected.add((await store.connections.establish(big))[0].id)
    assert (await store.connections.load(made.id))[0] == made  # reading goes on
    assert {item.id for item in await items(store, "inbox")} <= acknowledged

    ballast.unlink()
    again = large("after")
    await store.queues.accept(again)
    assert await store.queues.delivery(again.id) == again
    connected.add((await established(store, "account-2")).id)
    await store.aclose()
    stored = {id for (id,) in query(path, "SELECT id FROM service_webhook_deliveries")}
    assert stored == {*acknowledged, again.id}
    assert set(check_units(path)) == connected


async def test_neighbours_of_a_unit_that_ends_the_transaction_hear_its_reason_and_leave_nothing(
    store: SqliteStore,
) -> None:
    begun, gate = threading.Event(), threading.Event()
    rollback: Statement[Row] = Statement("ROLLBACK")

    def hold() -> Steps[None]:
        begun.set()
        gate.wait(10)
        return
        yield

    def refused() -> Steps[None]:
        raise ArithmeticError("of its own")
        yield

    def ends_all() -> Steps[None]:
        """What SQLite does by itself when a disk fails under a statement."""
        yield from rollback()
        raise StoreUnavailable("the disk failed")

    holding = asyncio.ensure_future(store._driver.run(hold))
    await asyncio.to_thread(begun.wait, 10)
    first, last = delivery("first"), delivery("last")
    calls = [
        asyncio.ensure_future(call)
        for call in (
            store._driver.run(refused),
            store.queues.accept(first),
            store._driver.run(ends_all),
            store.queues.accept(last),
        )
    ]
    await asyncio.sleep(0)
    gate.set()
    await holding
    own, before, cause, after = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(own), type(cause)] == [ArithmeticError, StoreUnavailable]
    for neighbour in (before, after):
        assert isinstance(neighbour, StoreUnavailable)
        assert "the disk failed" in neighbour.message
    assert await items(store, "inbox") == []
    assert not (await store.queues.accept(first)).duplicate


def test_acknowledged_means_synced_once_for_a_batch(path: Path, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode != 0:
        pytest.skip("strace, which sees the system calls, is not installed or may not trace here")
    log = tmp_path / "calls"
    traced = start(path, "rounds", "r", strace, "-f", "-y", "-e", "trace=fsync,fdatasync,write", "-o", str(log))
    out, _ = traced.communicate(timeout=100)
    assert traced.returncode == 0
    said = out.splitlines()
    steps = re.findall(r'(f(?:data)?sync)\(\d+<[^>]*-wal>\)|write\(1<[^>]*>, "(one \d+|many|ready)', log.read_text())
    syncs: Counter[str] = Counter()
    since = 0
    for sync, line in steps:
        if sync:
            since += 1
        else:
            syncs[line], since = since, 0
    assert [line for line in said if line != "ready"] == [line for line in syncs if line != "ready"]
    assert all(count >= 1 for line, count in syncs.items()), syncs
    assert syncs["many"] <= 8  # 64 callers, a few commits


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.mark.chaos
async def test_killed_process_leaves_no_unit_half_there(path: Path, chaos: Any) -> None:
    acknowledged: dict[str, int] = {}
    for round_ in range(chaos.rounds(4, 200)):
        worker = start(path, "establish", f"r{round_}")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        lines = [worker.stdout.readline() for _ in range(chaos.random.randrange(1, 200))]
        worker.send_signal(signal.SIGKILL)
        rest, _ = worker.communicate(timeout=60)
        lines += rest.splitlines(keepends=True)
        assert worker.returncode == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):
                connection_id, version = line.split()
                acknowledged[connection_id] = max(acknowledged.get(connection_id, 0), int(version))
        stored = check_units(path)
        assert all(stored.get(id, 0) >= version for id, version in acknowledged.items())
    store = SqliteStore(path)
    await store.open()
    one = next(iter(acknowledged))
    assert (await store.connections.load(one))[1] is not None
    assert (await store.status()).problems == ()
    await store.aclose()


async def test_each_lease_of_a_row_has_one_holder_in_four_processes(path: Path, store: SqliteStore) -> None:
    rows = [(await store.queues.accept(delivery(f"d{number}"))).id for number in range(240)]
    workers = [start(path, "forget", f"w{number}") for number in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said: list[tuple[str, ...]] = []
    for worker in workers:
        out, _ = worker.communicate(timeout=100)
        assert worker.returncode == 0
        said += [tuple(line.split()) for line in out.splitlines()]
    claimed = [line[1:] for line in said if line[0] == "claimed"]
    settled = [line[1] for line in said if line[0] == "settled"]
    assert len(set(claimed)) == len(claimed)  # no row twice under one fence
    assert sorted(settled) == sorted(rows)
    assert len(claimed) > len(rows)  # some were forgotten and taken over
    assert {item.status for item in (await store.queues.list("inbox", limit=500)).items} == {"processed"}


async def test_writer_of_another_program_is_waited_for_while_reads_go_on(path: Path, store: SqliteStore) -> None:
    patient = SqliteStore(path, busy_timeout=60)
    await patient.open()
    made = await established(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(patient.queues.accept(delivery()))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.3)
    assert not waiting.done()
    assert (await patient.connections.load(made.id))[0] == made
    other.execute("COMMIT")
    other.close()
    assert not (await waiting).duplicate
    await patient.aclose()


# --- clock ----------------------------------------------------------------------------------------------------------


class DatabaseClock:
    """SQLite's clock, which jumps when told: its function ``strftime`` is replaced on the store's connections."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = datetime(2026, 6, 1, 12, tzinfo=UTC)
        for connection in store._driver._connections:
            connection.create_function("strftime", -1, self._strftime)

    def jump(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _strftime(self, form: str, base: str, *modifiers: str) -> str:
        assert (form, base) == ("%Y-%m-%d %H:%M:%f", "now")
        moment = self.now
        for modifier in modifiers:
            number, unit = modifier.split()
            assert unit == "seconds"
            moment += timedelta(seconds=float(number))
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


async def test_clock_that_goes_back_neither_loses_nor_doubles_a_claim(store: SqliteStore) -> None:
    clock = DatabaseClock(store)
    held, waiting = delivery("held"), delivery("waiting")
    await store.queues.accept(held)
    (claim,) = await take(store, owner="a", lease=30)
    await store.queues.accept(waiting)

    clock.jump(-3600)
    assert await take(store, owner="b") == []  # the claim is not given away ...
    new = delivery("new")
    await store.queues.accept(new)
    (fresh,) = await take(store, owner="b")  # ... what comes now is due now ...
    assert fresh.id == new.id
    assert await store.queues.heartbeat([claim], lease=30) == []
    await store.queues.settle(claim, "done")  # ... and the holder still holds it.
    await store.queues.settle(fresh, "done")

    clock.jump(3600)  # what was waiting waits for as long as the clock went back, and no longer
    (late,) = await take(store, owner="b")
    assert late.id == waiting.id


async def test_dead_holder_is_succeeded_when_a_clock_that_went_back_has_caught_up(store: SqliteStore) -> None:
    clock = DatabaseClock(store)
    await store.queues.accept(delivery())
    (claim,) = await take(store, owner="dead", lease=30)
    clock.jump(-3600)
    clock.jump(3600 + 29)
    assert await take(store, owner="b") == []
    clock.jump(1)
    (successor,) = await take(store, owner="b")
    assert successor.fence > claim.fence


async def test_clock_that_leaps_ahead_ends_leases_and_the_fence_keeps_one_holder(store: SqliteStore) -> None:
    clock = DatabaseClock(store)
    await store.queues.accept(delivery())
    (early,) = await take(store, owner="a", lease=30)
    clock.jump(86_400)
    (successor,) = await take(store, owner="b", lease=30)
    clock.jump(-86_400)
    with pytest.raises(LeaseLost):
        await store.queues.settle(early, "done")
    assert await store.queues.heartbeat([early], lease=30) == [early.id]
    await store.queues.settle(successor, "done")
    assert [item.status for item in await items(store, "inbox")] == ["processed"]
