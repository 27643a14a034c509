"""Adoption of the Go system's database on a real server, and what verification finds there."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from go_services_core.admin import AdoptOptions
from go_services_core.errors import Conflict, StoreError
from go_services_core.model import Scope
from go_services_core.testing.checks.store import event, now
from go_services_core.testing.checks.store_queues import emit, take
from go_services_core.testing.go_database import BODY, CIPHERTEXT, statements
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore
from go_services_store_sql.verify import verify_schema


def execute(url: str, *texts: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for text in texts:
            cursor = connection.execute(text.encode())
        return [] if cursor.description is None else cursor.fetchall()


@pytest.fixture
def go_url(empty_url: str) -> str:
    execute(empty_url, *statements("postgres"))
    return empty_url


def tables(url: str) -> dict[str, int]:
    names = [
        str(name)
        for (name,) in execute(url, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ 'service_'")
    ]
    return {name: int(str(execute(url, f"SELECT count(*) FROM {name}")[0][0])) for name in names}


async def test_rows_of_every_kind_are_adopted_and_read(go_url: str) -> None:
    store = PostgresStore(PostgresSettings(url=go_url))
    before = tables(go_url)
    report = await store.admin.adopt(AdoptOptions(auth_kinds={"github": "oauth2_client_credentials"}))
    assert {line.name: line.rows for line in report} == before
    assert await store.admin.verify() == []
    await store.open()
    connection, credential = await store.connections.load("c1")
    assert (connection.auth_kind, connection.scope) == ("oauth2_client_credentials", Scope("user", "u1"))
    assert credential is not None
    assert credential.sealed.ciphertext == CIPHERTEXT
    delivery = await store.queues.delivery("w1")
    assert delivery is not None
    assert delivery.sealed.ciphertext == BODY
    (dead,) = (await store.queues.list("outbox", status="dead")).items
    assert (dead.handler, dead.error) == ("go-services", "gave up")
    assert len((await store.log.activity()).items) == 2
    assert execute(go_url, "DELETE FROM service_connections", "SELECT connection_id FROM service_events") == [(None,)]
    await store.aclose()
    assert not [name for name in tables(go_url) if name.startswith("go_")]


async def test_pending_events_reach_the_handlers_that_are_named(go_url: str) -> None:
    store = PostgresStore(PostgresSettings(url=go_url))
    await store.admin.adopt(AdoptOptions(handlers={"app.audit": "connection.*"}))
    await store.open()
    assert [claim.id for claim in await take(store, "app.audit")] == ["ev2:app.audit", "ev3:app.audit"]
    assert await take(store, "app.audit") == []
    await store.aclose()


async def test_dry_run_leaves_the_database_as_it_was(go_url: str) -> None:
    before = tables(go_url)
    store = PostgresStore(PostgresSettings(url=go_url))
    report = await store.admin.adopt(AdoptOptions(), dry_run=True)
    assert sum(line.rows for line in report) == sum(before.values())
    assert tables(go_url) == before
    with pytest.raises(StoreError, match="tables of the Go system"):
        await store.admin.plan()


async def test_foreign_key_of_another_table_is_refused(go_url: str) -> None:
    execute(go_url, "CREATE TABLE app_links (id TEXT REFERENCES service_connections (id))")
    store = PostgresStore(PostgresSettings(url=go_url))
    with pytest.raises(Conflict, match="app_links"):
        await store.admin.adopt(AdoptOptions())
    assert "service_meta" not in tables(go_url)


async def test_of_two_adoptions_at_once_one_is_told_that_it_is_done(go_url: str) -> None:
    stores = [PostgresStore(PostgresSettings(url=go_url)) for _ in range(2)]
    ended = await asyncio.gather(*(store.admin.adopt(AdoptOptions()) for store in stores), return_exceptions=True)
    (refused,) = [result for result in ended if isinstance(result, BaseException)]
    assert isinstance(refused, StoreError)
    assert "already" in str(refused)
    assert await stores[0].admin.verify() == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP INDEX uq_service_credentials_active", "service_credentials: unique index uq_service_credentials_active"),
        ("ALTER TABLE service_leases ALTER fence TYPE bigint", "column fence is bigint not null, not integer not null"),
        ("ALTER TABLE service_leases ALTER fence DROP NOT NULL", "column fence is integer nullable"),
        (
            "ALTER TABLE service_connections ALTER refresh_state DROP DEFAULT",
            "column refresh_state is text not null, not",
        ),
        ("ALTER TABLE service_replay_ledger DROP CONSTRAINT service_replay_ledger_pkey", "primary key is missing"),
        (
            "ALTER TABLE service_subscriptions DROP CONSTRAINT service_subscriptions_connection_id_fkey",
            "service_subscriptions: foreign key (connection_id) is missing",
        ),
        (
            "ALTER TABLE service_credentials DROP CONSTRAINT service_credentials_version_check",
            "service_credentials: check CHECK ((version > 0)) is missing",
        ),
        ("DROP TABLE service_replay_ledger", "table service_replay_ledger is missing"),
        ("CREATE UNIQUE INDEX own ON service_leases (owner)", "service_leases: unique index own is not ours"),
    ],
)
async def test_each_difference_of_the_schema_is_named(url: str, damage: str, said: str) -> None:
    store = PostgresStore(PostgresSettings(url=url))
    assert await store.admin.verify() == []
    execute(url, damage)
    assert any(said in problem for problem in await store.admin.verify())


async def test_schema_is_verified_on_a_connection_of_the_application(url: str) -> None:
    for autocommit in (True, False):
        with psycopg.connect(url, autocommit=autocommit) as connection:
            verify_schema(connection, "pg")
            assert connection.execute("SELECT count(*) FROM service_leases").fetchone() == (0,)
    execute(url, "DROP TABLE service_leases")
    with psycopg.connect(url) as connection, pytest.raises(StoreError, match="service_leases is missing"):
        verify_schema(connection, "postgresql")


async def test_rows_that_make_no_sense_are_counted(url: str) -> None:
    execute(
        url,
        """INSERT INTO service_sync_jobs (id, provider_id, mode, status, created_at, updated_at)
        VALUES ('j', 'p', 'full', 'odd', now(), now()), ('k', 'p', 'full', 'queued', now(), now())""",
    )
    assert await PostgresStore(PostgresSettings(url=url)).admin.verify() == [
        "1 rows of service_sync_jobs with an unknown status",
        "1 rows of service_sync_jobs that are waiting and never due",
    ]


async def test_last_migration_is_undone_and_applied_again(url: str) -> None:
    store = PostgresStore(PostgresSettings(url=url))
    undone = await store.admin.down()
    assert [step.number for step in await store.migrate()] == [undone.number]
    assert await store.admin.verify() == []


async def test_events_are_handed_out_once_whichever_way_the_schema_went(url: str) -> None:
    """Migration 0012 keeps what waits in a table of its own; undone, it is in the status of the event again."""
    store = PostgresStore(PostgresSettings(url=url))
    await store.open()
    await store.queues.register_handlers({"h": "*"}, now=now())
    first, second = sorted((event(order_key="k"), event(order_key="k")), key=lambda told: told.id)
    await emit(store, first)
    assert [claim.event for claim in await take(store, "h")] == [first]
    await emit(store, second)
    while (await store.admin.down()).number > 12:
        pass
    select = "SELECT event_id, status FROM service_lifecycle_outbox ORDER BY event_id"
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(select).fetchall() == [(first.id, "delivered"), (second.id, "pending")]
        await store.migrate()
        select = "SELECT event_id, order_key FROM service_pending_events"
        assert connection.execute(select).fetchall() == [(second.id, "k")]
    await store.aclose()


async def test_vacuum_goes_through_every_table(url: str) -> None:
    store = PostgresStore(PostgresSettings(url=url))
    seen: list[str] = []
    done = await store.admin.vacuum(progress=seen.append)
    sizes = await store.admin.sizes()
    assert seen == [line.name for line in done] == [size.name for size in sizes]
    assert all(size.bytes for size in sizes)
