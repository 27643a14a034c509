"""The table of ``docs/reference/states.md``: each cause in each state, in every store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from attrs import define, evolve, field, frozen

from go_services_core.errors import ServicesError
from go_services_core.grants import GrantEvent
from go_services_core.model import Connection, ConnectionStatus
from go_services_core.refreshes import Lease
from go_services_core.states import CONNECTION_MOVES
from go_services_core.testing.checks.store import attempt, change, credential, event, new_id, now
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.postgres import PostgresServer
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore
from go_services_store_sqlite.store import SqliteStore

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "states.md"
REQUIRED = "GO_SERVICES_REQUIRE_INTEGRATION"
STATUSES = get_args(ConnectionStatus)


@frozen
class Line:
    """A row of the table."""

    cause: str
    before: str
    after: str
    credential: str
    events: tuple[str, ...]
    answer: str

    @property
    def id(self) -> str:
        return f"{self.before}: {self.cause}"


def lines() -> list[Line]:
    text = PAGE.read_text(encoding="utf-8").split("<!-- table: states -->")[1]
    found = []
    for line in text.strip().splitlines():
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Cause" or set(cells[0]) == {"-"}:
            continue
        cause, before, after, active, events, answer = cells
        found.append(Line(cause, before, after, active, tuple(filter(None, events.split(", "))), answer))
    return found


LINES = lines()


@define
class Case:
    """One connection in one store."""

    store: Any
    url: str
    made: Connection | None = None
    lease: Lease = field(default=Lease(resource="refresh:none", owner="a", fence=1))
    before: dict[str, str] = field(factory=dict)

    @property
    def facet(self) -> Any:
        return self.store.connections

    @property
    def id(self) -> str:
        assert self.made is not None
        return self.made.id

    async def become(self, status: str) -> None:
        """A connection of that status whose renewal had begun before."""
        if status != "(none)":
            self.made, _ = await self.facet.establish(change())
            opened = await self.facet.open_refresh(self.id, owner="a", lease=60, intent_id=new_id())
            self.lease = opened.lease
        if status == "disconnected":
            await self.facet.disconnect(self.id, reason="kit", event=event("connection.disconnected", self.id))
        elif status == "needs_reconsent":
            told = event("connection.needs_reconsent", self.id)
            await self.facet.require_reconsent(self.id, reason="kit", event=told)
        elif status in ("errored", "pending_reauth"):
            self.force(status)
        self.before = await self.events()

    def force(self, status: str) -> None:
        """What an adopted row may be, past the store."""
        if isinstance(self.store, MemoryStore):
            self.store._tables.change(self.store._tables.connections[self.id], status=status)
        elif isinstance(self.store, SqliteStore):
            with sqlite3.connect(self.url) as database:
                database.execute("UPDATE service_connections SET status = ?", (status,))
            database.close()
        else:
            with psycopg.connect(self.url, autocommit=True) as other:
                other.execute("UPDATE service_connections SET status = %s", (status,))

    async def events(self) -> dict[str, str]:
        return {item.id: item.name for item in (await self.store.queues.list("outbox")).items}

    # --- causes ----------------------------------------------------------------------------------------------------

    async def consent(self, expected: str | None = None) -> None:
        wanted = change()
        known, version = await self.facet.next_version("kit", wanted.connection.scope, "account-1")
        if known is not None:
            wanted = evolve(wanted, credential=credential(known, version))
        await self.facet.establish(evolve(wanted, expected_connection_id=expected))

    async def re_consent_completed(self) -> None:
        await self.consent(expected=self.id)

    async def re_consent_with_another_account(self) -> None:
        await self.facet.establish(evolve(change("account-2"), expected_connection_id=self.id))

    async def re_consent_begun(self) -> None:
        asked = GrantEvent(
            id=new_id(),
            connection_id=self.id,
            type="reconsent_requested",
            requested=("read", "write"),
            granted=("read",),
            added=("write",),
            snapshot_version=1,
            occurred_at=now(),
        )
        await self.facet.begin_attempt(attempt(b"state", b"binding", connection_id=self.id), reconsent=asked)

    async def re_consent_required(self) -> None:
        told = event("connection.needs_reconsent", self.id)
        await self.facet.require_reconsent(self.id, reason="asked", event=told)

    async def renewal_begun(self) -> None:
        if (await self.facet.get(self.id)).status != "disconnected":  # which has broken the lease
            await self.facet.drop_refresh(self.lease)
        await self.facet.open_refresh(self.id, owner="b", lease=60, intent_id=new_id())

    async def renewal_saved(self, **fields: Any) -> None:
        await self.facet.close_refresh(
            credential(self.id, 2, **fields),
            lease=self.lease,
            active_version=1,
            event=event("credential.refreshed", self.id),
        )

    async def renewal_saved__every_grant_lost(self) -> None:
        await self.renewal_saved(granted=())

    async def renewal_failed(self) -> None:
        await self.facet.fail_refresh(self.lease, error="timeout", terminal=False, event=None)

    async def grant_ended(self) -> None:
        told = event("connection.pending_reauth", self.id)
        await self.facet.fail_refresh(self.lease, error="invalid_grant", terminal=True, event=told)

    async def disconnect(self) -> None:
        await self.facet.disconnect(self.id, reason="asked", event=event("connection.disconnected", self.id))

    async def happens(self, cause: str) -> None:
        await getattr(self, cause.replace(", ", "__").replace(" ", "_").replace("-", "_"))()


@pytest.fixture(scope="module")
def database(database_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    name = f"go_services_states_{os.getpid()}"
    with psycopg.connect(database_server.base, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_template}".encode())
    yield database_server.url(name)
    with psycopg.connect(database_server.base, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    url = str(tmp_path / "store.db")
    store: Any
    if request.param == "memory":
        store = MemoryStore()
    elif request.param == "sqlite":
        store = SqliteStore(tmp_path / "store.db")
    else:
        url = request.getfixturevalue("database")
        store = PostgresStore(PostgresSettings(url=url))
    await store.migrate()
    await store.open()
    if request.param == "postgres":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "TRUNCATE service_connections, service_lifecycle_outbox, service_leases, service_oauth_attempts CASCADE"
            )
    yield Case(store, url)
    await store.aclose()


def test_the_table_has_every_cause_in_every_status() -> None:
    causes = {line.cause for line in LINES}
    assert {(line.cause, line.before) for line in LINES} == {*product(causes, STATUSES), ("consent", "(none)")}
    assert len(LINES) == len(causes) * len(STATUSES) + 1


def test_the_table_moves_as_the_code_says_and_nothing_sets_errored() -> None:
    moves = {(line.before, line.after) for line in LINES if line.before not in ("(none)", line.after)}
    allowed = {(before, after) for before, others in CONNECTION_MOVES.items() for after in others}
    assert moves == allowed - {("active", "errored")}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.id)
async def test_a_cause_does_to_a_status_what_the_table_says(case: Case, line: Line) -> None:
    await case.become(line.before)
    answer = ""
    try:
        await case.happens(line.cause)
    except ServicesError as error:
        answer = type(error).__name__
    assert answer == line.answer
    after = await case.events()
    assert sorted(name for id, name in after.items() if id not in case.before) == sorted(line.events)
    (connection,) = (await case.facet.list()).items
    assert connection.status == line.after
    _, row = await case.facet.load(connection.id)
    version = {"superseded": 2, "kept": 1, "none": 1}.get(line.credential, 2 if line.after == "active" else None)
    assert (row.version if row is not None else None) == version


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "active"])
async def test_a_status_that_was_left_is_left_by_all_who_come_late(case: Case, status: str) -> None:
    """A renewal never re-activates what was ended meanwhile (behaviour of a revoked connection in the Go system)."""
    await case.become(status)
    for cause in ("renewal begun", "renewal saved", "renewal failed", "re-consent required"):
        with suppress(ServicesError):
            await case.happens(cause)
        assert (await case.facet.get(case.id)).status == status
