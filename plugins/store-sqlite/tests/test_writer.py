"""The writer thread: what callers that share a commit do to each other."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from go_services_core.errors import CommitUnknown, Conflict, StoreError, StoreUnavailable
from go_services_core.model import Accepted, Establish
from go_services_core.testing.checks.store import change, established, event
from go_services_core.testing.checks.store_queues import delivery, take
from go_services_store_sql.statement import Row, Statement, Steps
from go_services_store_sqlite.store import SqliteStore

NOTE: Statement[Row] = Statement("INSERT INTO notes (text) VALUES (:text)")
NOTES: Statement[str] = Statement("SELECT text FROM notes ORDER BY rowid", lambda row: str(row[0]))


@pytest.fixture
async def notes(store: SqliteStore) -> SqliteStore:
    """A store whose file also has a table of the application's own."""
    create: Statement[Row] = Statement(
        "CREATE TABLE notes (text TEXT UNIQUE, parent TEXT REFERENCES notes (text) DEFERRABLE INITIALLY DEFERRED)"
    )
    await store._driver.run(create)
    return store


def note(*texts: str) -> Callable[[], Steps[str]]:
    def work() -> Steps[str]:
        for text in texts:
            yield from NOTE(text=text)
        return texts[-1]

    return work


def hold(gate: threading.Event, begun: threading.Event) -> Steps[None]:
    """A unit that keeps the writer until the gate opens."""
    begun.set()
    gate.wait(10)
    yield from NOTES()


async def together(store: SqliteStore, *works: Callable[[], Steps[str]]) -> list[str | BaseException]:
    """Run units in one commit: they queue up while the writer is held in another unit."""
    begun, gate = threading.Event(), threading.Event()
    holding = asyncio.ensure_future(store._driver.run(lambda: hold(gate, begun)))
    await asyncio.to_thread(begun.wait, 10)
    tasks = [asyncio.ensure_future(store._driver.run(work)) for work in works]
    await asyncio.sleep(0)
    gate.set()
    await holding
    return await asyncio.gather(*tasks, return_exceptions=True)


async def read_notes(store: SqliteStore) -> list[str]:
    return await store._driver.read(NOTES)


async def test_writer_is_durable_and_checks_foreign_keys_and_overwrites(store: SqliteStore) -> None:
    expected = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1}
    for pragma, value in expected.items():
        statement: Statement[Row] = Statement(f"PRAGMA {pragma}")
        assert await store._driver.run(statement) == [(value,)]


async def test_failing_unit_undoes_only_itself(notes: SqliteStore) -> None:
    def broken() -> Steps[str]:
        yield from NOTE(text="half done")
        raise ArithmeticError("mine")

    answers = await together(notes, note("a"), broken, note("b", "a"), note("c"))
    assert [type(answer) for answer in answers] == [str, ArithmeticError, Conflict, str]
    assert await read_notes(notes) == ["a", "c"]


async def test_failing_unit_alone_leaves_nothing(notes: SqliteStore) -> None:
    with pytest.raises(Conflict, match="UNIQUE"):
        await notes._driver.run(note("a", "b", "a"))
    assert await read_notes(notes) == []
    assert await notes._driver.run(note("a")) == "a"


async def test_failing_unit_of_one_statement_undoes_only_itself_without_a_savepoint(notes: SqliteStore) -> None:
    texts: list[str] = []
    notes.trace(texts.append)

    begun, gate = threading.Event(), threading.Event()
    holding = asyncio.ensure_future(notes._driver.run(lambda: hold(gate, begun)))
    await asyncio.to_thread(begun.wait, 10)
    tasks = [asyncio.ensure_future(notes._driver.run(note(text), alone=True)) for text in ("a", "a", "b")]
    await asyncio.sleep(0)
    gate.set()
    await holding
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    notes.trace(None)
    assert (first, third) == ("a", "b")
    assert isinstance(second, Conflict)
    assert await read_notes(notes) == ["a", "b"]
    assert not [text for text in texts if text.startswith("SAVEPOINT")]
    assert texts.count("COMMIT") == 2  # that of the unit which held the writer, and one for all three


async def test_delivery_that_is_refused_hurts_none_that_arrives_with_it(store: SqliteStore) -> None:
    known = delivery("known")
    await store.queues.accept(known)
    bad: Any = {"event": None}
    sent = [delivery("a"), delivery("b", **bad), delivery("c"), delivery("known"), delivery("d", event="\ud800")]
    answers = await asyncio.gather(*map(store.queues.accept, sent), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Accepted, Conflict, Accepted, Accepted, UnicodeEncodeError]
    assert [item.id for item in (await store.queues.list("inbox")).items] == [known.id, sent[0].id, sent[2].id]


async def test_deliveries_that_the_disk_has_no_room_for_are_all_refused(store: SqliteStore) -> None:
    tight: Statement[Row] = Statement("PRAGMA max_page_count = 1")
    await store._driver.run(tight)
    sent = [delivery(f"d{number}", os.urandom(60_000)) for number in range(20)]
    answers = await asyncio.gather(*map(store.queues.accept, sent), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert (await store.queues.list("inbox")).items == ()
    roomy: Statement[Row] = Statement("PRAGMA max_page_count = 100000")
    await store._driver.run(roomy)
    assert [answer.duplicate for answer in await asyncio.gather(*map(store.queues.accept, sent))] == [False] * 20


async def test_failed_commit_fails_every_caller(notes: SqliteStore) -> None:
    orphan: Statement[Row] = Statement("INSERT INTO notes (text, parent) VALUES ('x', 'nobody')")

    def violates_at_commit() -> Steps[str]:
        yield from orphan()
        return "x"

    answers = await together(notes, note("a"), violates_at_commit, note("b"))
    assert [type(answer) for answer in answers] == [Conflict, Conflict, Conflict]
    assert await read_notes(notes) == []
    assert await notes._driver.run(note("a")) == "a"


async def test_full_disk_is_typed_and_passes(notes: SqliteStore) -> None:
    tight: Statement[Row] = Statement("PRAGMA max_page_count = 1")  # SQLite takes the size that the file has
    await notes._driver.run(tight)
    with pytest.raises(StoreUnavailable, match="full"):
        for number in range(100):
            await notes._driver.run(note(f"{number} " * 50_000))
    before = await read_notes(notes)
    roomy: Statement[Row] = Statement("PRAGMA max_page_count = 100000")
    await notes._driver.run(roomy)
    assert await notes._driver.run(note("after")) == "after"
    assert await read_notes(notes) == [*before, "after"]


async def test_disk_that_fails_while_committing_is_typed_unknown_and_passes(path: Path, notes: SqliteStore) -> None:
    (log,) = (file for file in path.parent.iterdir() if file.name.endswith("-wal"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(log).st_size + 20_000, limits[1]))  # noqa: PTH116
    try:
        with pytest.raises(CommitUnknown):
            await notes._driver.run(note("x" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert await notes._driver.run(note("after")) == "after"
    assert "after" in await read_notes(notes)


async def test_cancelled_caller_cancels_neither_its_unit_nor_its_neighbours(notes: SqliteStore) -> None:
    callers: list[asyncio.Future[str]] = []

    def slow() -> Steps[str]:
        callers[0].get_loop().call_soon_threadsafe(callers[0].cancel)
        return (yield from note("kept")())

    begun, gate = threading.Event(), threading.Event()
    holding = asyncio.ensure_future(notes._driver.run(lambda: hold(gate, begun)))
    await asyncio.to_thread(begun.wait, 10)
    callers += [asyncio.ensure_future(notes._driver.run(work)) for work in (slow, note("next"))]
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    assert await callers[1] == "next"
    await holding
    assert await read_notes(notes) == ["kept", "next"]


async def test_closing_finishes_what_was_submitted(path: Path, notes: SqliteStore) -> None:
    calls = [asyncio.ensure_future(notes._driver.run(note(f"n{number}"))) for number in range(20)]
    await asyncio.sleep(0)
    await notes.aclose()
    await notes.aclose()
    assert sorted(await asyncio.gather(*calls)) == sorted(f"n{number}" for number in range(20))
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # the log is gone
    for call in (notes.queues.accept(delivery()), notes.connections.load("x")):
        with pytest.raises(StoreUnavailable):
            await call
    await notes.open()
    assert len(await read_notes(notes)) == 20


async def test_one_store_serves_several_loops(store: SqliteStore) -> None:
    def elsewhere(number: int) -> bool:
        return asyncio.run(store.queues.accept(delivery(f"d{number}"))).duplicate

    answers = await asyncio.gather(*(asyncio.to_thread(elsewhere, number % 4) for number in range(8)))
    assert sorted(answers) == [False] * 4 + [True] * 4


async def test_settlement_and_the_callers_own_statements_are_one_commit(notes: SqliteStore) -> None:
    await notes.queues.accept(delivery())
    (claim,) = await take(notes)
    with pytest.raises(Conflict):
        await notes.queues.settle(claim, "done", events=[event()], work=note("a", "a"))
    assert await read_notes(notes) == []
    assert (await notes.queues.list("outbox")).items == ()
    await notes.queues.settle(claim, "done", events=[event()], work=note("a"))
    assert await read_notes(notes) == ["a"]
    assert len((await notes.queues.list("outbox")).items) == 1


async def test_statement_that_sqlite_refuses_is_a_store_error(store: SqliteStore) -> None:
    broken: Statement[Row] = Statement("SELECT 1 FROM nowhere")
    for run in (store._driver.run, store._driver.read):
        with pytest.raises(StoreError, match="nowhere"):
            await run(broken)


async def test_read_that_finds_the_file_locked_waits_in_the_writer(notes: SqliteStore) -> None:
    threads: list[str] = []

    def work() -> Steps[list[str]]:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            locked = sqlite3.OperationalError("database is locked")
            locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise locked
        return (yield from NOTES())

    assert await notes._driver.read(work) == []
    assert threads == ["MainThread", "go-services-sqlite"]


async def test_forked_child_is_refused_instead_of_waiting_for_ever(store: SqliteStore) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        child = os.fork()
    if child == 0:
        refused = 0
        for call in (store.queues.accept(delivery()), store.connections.get("x")):
            try:
                call.send(None)
            except StoreUnavailable:
                refused += 1
        os._exit(refused)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 2


async def test_lock_of_another_writer_is_waited_for_and_then_typed(path: Path, store: SqliteStore) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.queues.accept(delivery())
    other.execute("ROLLBACK")
    other.close()
    assert not (await store.queues.accept(delivery())).duplicate


def sealed(wanted: Establish, ciphertext: bytes, **fields: Any) -> Establish:
    credential = evolve(wanted.credential, sealed=evolve(wanted.credential.sealed, ciphertext=ciphertext), **fields)
    return evolve(wanted, credential=credential)


async def test_destroyed_ciphertexts_are_in_no_file(path: Path, store: SqliteStore) -> None:
    superseded, active = b"superseded secret " * 400, b"active secret " * 20

    def found() -> list[bool]:
        files = [file.read_bytes() for file in path.parent.iterdir()]
        return [any(secret[:20] in content for content in files) for secret in (superseded, active)]

    made, _ = await store.connections.establish(sealed(change(), superseded))
    await store.connections.establish(sealed(change(), active, connection_id=made.id, version=2))
    await established(store, "another account")
    assert found() == [True, True]
    await store.connections.disconnect(made.id, reason="asked", event=event())
    assert found() == [False, False]
    assert (await store.status()).problems == ()
