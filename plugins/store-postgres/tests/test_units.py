"""Units of work: undone as a whole, run again when that is right, never cancelled by their caller."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable

import psycopg
import pytest

from go_services_core.errors import BadInput, Conflict, StoreError, StoreUnavailable
from go_services_core.testing.checks.store import event
from go_services_core.testing.checks.store_queues import delivery, take
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore
from go_services_store_sql.statement import Row, Statement, Steps

from .gate import closed_gate, wait_at_gate

NOTE: Statement[Row] = Statement("INSERT INTO notes (text) VALUES (:text)")
NOTES: Statement[str] = Statement("SELECT text FROM notes ORDER BY text", lambda row: str(row[0]))
TOUCH: Statement[Row] = Statement("UPDATE notes SET touched = touched + 1 WHERE text = :text")


@pytest.fixture
async def notes(store: PostgresStore) -> PostgresStore:
    """A store whose database also has a table of the application's own."""
    create: Statement[Row] = Statement(
        """CREATE TABLE notes (text TEXT PRIMARY KEY, touched INTEGER NOT NULL DEFAULT 0,
          parent TEXT REFERENCES notes (text) DEFERRABLE INITIALLY DEFERRED)"""
    )
    await store._driver.run(create)
    return store


def note(*texts: str) -> Callable[[], Steps[str]]:
    def work() -> Steps[str]:
        for text in texts:
            yield from NOTE(text=text)
        return texts[-1]

    return work


async def read_notes(store: PostgresStore) -> list[str]:
    return await store._driver.read(NOTES)


def failing(code: str) -> Statement[Row]:
    """A statement that the server refuses with that code."""
    return Statement({"postgres": f"DO $$ BEGIN RAISE EXCEPTION 'kit' USING ERRCODE = '{code}'; END $$"})


async def test_failing_unit_leaves_nothing(notes: PostgresStore) -> None:
    def broken() -> Steps[None]:
        yield from NOTE(text="half done")
        raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        await notes._driver.run(broken)
    with pytest.raises(Conflict, match="notes_pkey") as refused:
        await notes._driver.run(note("a secret", "a secret"))
    assert "a secret" not in str(refused.value)
    assert await read_notes(notes) == []
    assert await notes._driver.run(note("a")) == "a"


async def test_constraint_that_is_checked_at_commit_is_a_conflict(notes: PostgresStore) -> None:
    orphan: Statement[Row] = Statement("INSERT INTO notes (text, parent) VALUES ('x', 'nobody')")

    def work() -> Steps[None]:
        yield from NOTE(text="before")
        yield from orphan()

    with pytest.raises(Conflict):
        await notes._driver.run(work)
    assert await read_notes(notes) == []


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_unit_that_lost_to_others_is_run_again(notes: PostgresStore, code: str) -> None:
    runs = []

    def work() -> Steps[int]:
        runs.append(1)
        yield from NOTE(text="once")
        if len(runs) < 3:
            yield from failing(code)()
        return len(runs)

    assert await notes._driver.run(work) == 3
    assert await read_notes(notes) == ["once"]


async def test_unit_that_always_loses_is_given_up(notes: PostgresStore) -> None:
    runs = []

    def work() -> Steps[None]:
        runs.append(1)
        yield from failing("40001")()

    with pytest.raises(StoreUnavailable, match="try again"):
        await notes._driver.run(work)
    assert len(runs) == 6


async def test_two_units_in_a_deadlock_both_end_well(url: str, notes: PostgresStore) -> None:
    await notes._driver.run(note("a", "b"))

    def touch(first: str, second: str) -> Callable[[], Steps[None]]:
        def work() -> Steps[None]:
            yield from TOUCH(text=first)
            yield from wait_at_gate()
            yield from TOUCH(text=second)

        return work

    async with closed_gate(url) as gate:
        calls = [asyncio.ensure_future(notes._driver.run(touch(*order))) for order in ("ab", "ba")]
        await gate.waiting(2)
        await gate.open()
        await asyncio.gather(*calls)
    touched: Statement[Row] = Statement("SELECT touched FROM notes")
    assert await notes._driver.read(touched) == [(2,), (2,)]


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        ("53100", StoreUnavailable, "disk"),
        ("53300", StoreUnavailable, "pool_max"),
        ("25006", StoreUnavailable, "primary"),
        ("58030", StoreUnavailable, "log"),
        ("22P05", BadInput, None),
        ("42P01", StoreError, None),
    ],
)
async def test_errors_of_the_server_are_typed(
    notes: PostgresStore, code: str, kind: type[StoreError], hint: str | None
) -> None:
    for run in (notes._driver.run, notes._driver.read):
        with pytest.raises(kind) as refused:
            await run(failing(code))
        assert type(refused.value) is kind
        assert hint is None or hint in str(refused.value.hint)
    assert await read_notes(notes) == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_text_that_postgres_cannot_store_is_refused(notes: PostgresStore, text: str) -> None:
    with pytest.raises(BadInput):
        await notes.queues.accept(delivery(text))
    with pytest.raises(BadInput):
        await notes._driver.run(note("before", text))
    assert await read_notes(notes) == []
    assert (await notes.queues.list("inbox")).items == ()


async def test_statement_that_takes_too_long_is_ended_and_the_connection_kept(url: str) -> None:
    store = PostgresStore(PostgresSettings(url=url, pool_max=1, statement_timeout=0.1))
    await store.open()
    backend: Statement[Row] = Statement("SELECT pg_backend_pid()")
    sleep: Statement[Row] = Statement("SELECT pg_sleep(60)")
    before = await store._driver.read(backend)
    with pytest.raises(StoreUnavailable, match="statement_timeout"):
        await store._driver.run(sleep)
    assert await store._driver.read(backend) == before
    await store.aclose()


async def test_locks_of_a_transaction_that_fell_silent_are_freed(url: str) -> None:
    """What a process that stops in the middle leaves behind ends by itself."""
    store = PostgresStore(PostgresSettings(url=url, statement_timeout=0.2))
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await connection.execute(store._driver._begin.encode())
    await connection.execute("LOCK TABLE service_meta")
    await store.open()
    while True:
        try:
            await store.remember("name", b"value")
            break
        except StoreUnavailable:
            continue
    await connection.close()
    await store.aclose()


async def test_busy_pool_is_named(url: str) -> None:
    store = PostgresStore(PostgresSettings(url=url, pool_max=2, pool_timeout=0.2))
    await store.open()
    async with closed_gate(url) as gate:
        held = [asyncio.ensure_future(store._driver.run(wait_at_gate)) for _ in range(2)]
        await gate.waiting(2)
        with pytest.raises(StoreUnavailable, match=r"All 2 connections .* pool_max"):
            await store.queues.accept(delivery())
        await gate.open()
        await asyncio.gather(*held)
    await store.aclose()


async def test_cancelled_caller_does_not_cancel_its_unit_and_closing_waits_for_it(
    url: str, notes: PostgresStore
) -> None:
    def work() -> Steps[None]:
        yield from wait_at_gate()
        yield from NOTE(text="kept")

    async with closed_gate(url) as gate:
        caller = asyncio.ensure_future(notes._driver.run(work))
        await gate.waiting()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        closing = asyncio.ensure_future(notes.aclose())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="not open"):
            await notes.queues.accept(delivery())
        await gate.open()
        await closing
    await notes.open()
    assert await read_notes(notes) == ["kept"]


async def test_cancelled_read_leaves_the_store_usable(url: str, notes: PostgresStore) -> None:
    async with closed_gate(url) as gate:
        caller = asyncio.ensure_future(notes._driver.read(wait_at_gate))
        await gate.waiting()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await gate.waiting(0)
    assert await read_notes(notes) == []


async def test_settlement_and_the_callers_own_statements_are_one_commit(notes: PostgresStore) -> None:
    await notes.queues.accept(delivery())
    (claim,) = await take(notes)
    with pytest.raises(Conflict):
        await notes.queues.settle(claim, "done", events=[event()], work=note("a", "a"))
    assert await read_notes(notes) == []
    assert (await notes.queues.list("outbox")).items == ()
    await notes.queues.settle(claim, "done", events=[event()], work=note("a"))
    assert await read_notes(notes) == ["a"]
    assert len((await notes.queues.list("outbox")).items) == 1


async def test_other_loop_is_refused_instead_of_waiting_for_ever(store: PostgresStore) -> None:
    def elsewhere() -> None:
        with pytest.raises(StoreUnavailable, match="event loop"):
            asyncio.run(store.queues.accept(delivery()))

    await asyncio.to_thread(elsewhere)


async def test_forked_child_is_refused(store: PostgresStore) -> None:
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
