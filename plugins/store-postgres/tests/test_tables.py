"""What is in the tables, for operators and for the Go system, which shares their names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from attrs import evolve

from go_services_core.testing.checks.store import attempt, change, credential, established, event, now
from go_services_core.testing.checks.store_queues import delivery, emit, take
from go_services_store_postgres.settings import PostgresSettings
from go_services_store_postgres.store import PostgresStore

COLUMNS = "table_name = 'service_webhook_deliveries' AND table_schema = current_schema() AND is_generated = 'NEVER'"


def rows(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text.encode()).fetchall()


async def test_disconnecting_overwrites_every_ciphertext(url: str, store: PostgresStore) -> None:
    made = await established(store)
    await store.connections.establish(evolve(change(), credential=credential(made.id, 2)))
    await store.connections.disconnect(made.id, reason="asked", event=event())
    select = "SELECT encrypted_payload, destroyed_at IS NOT NULL FROM service_credentials"
    assert rows(url, select) == [(b"", True)] * 2


async def test_json_can_be_queried_and_unknown_grants_are_null(url: str, store: PostgresStore) -> None:
    wanted = change()
    await store.connections.establish(evolve(wanted, credential=evolve(wanted.credential, granted=None)))
    select = "SELECT requested_scopes ->> 0, granted_scopes = 'null' FROM service_credentials"
    assert rows(url, select) == [("read", True)]
    select = "SELECT payload #>> '{items,1,text}' FROM service_lifecycle_outbox"
    assert rows(url, select) == [("ü",)]


async def test_leases_go_by_the_servers_clock(url: str, store: PostgresStore) -> None:
    await store.queues.accept(delivery())
    await take(store, lease=90)
    select = "SELECT next_attempt_at - updated_at FROM service_webhook_deliveries"
    assert [left.total_seconds() for (left,) in rows(url, select)] == [90]
    rows(url, "UPDATE service_webhook_deliveries SET next_attempt_at = now() - interval '1 ms' RETURNING 1")
    assert len(await take(store)) == 1


async def test_state_and_binding_are_stored_hashed_and_old_attempts_are_dropped(url: str, store: PostgresStore) -> None:
    await store.connections.begin_attempt(attempt(b"old state", b"binding", expires_at=now().replace(year=2020)))
    wanted = attempt(b"secret state", b"secret binding")
    await store.connections.begin_attempt(wanted)
    select = "SELECT state_hash, binding_hash FROM service_oauth_attempts"
    assert rows(url, select) == [(wanted.state_hash, wanted.binding_hash)]


async def test_replay_ledger_drops_keys_that_are_over(url: str, store: PostgresStore) -> None:
    await store.once.claim("short", ttl=-1)
    await store.once.claim("long", ttl=60)
    assert rows(url, "SELECT key FROM service_replay_ledger") == [("long",)]


async def test_claims_find_what_is_due_by_an_index(url: str) -> None:
    from go_services_store_sql import fan_out, inbox, outbox
    from go_services_store_sql.dialect import POSTGRES, Json

    begin = {"after": "", "due_from": now()}
    values = {"owner": "w", "seconds": 1.0, "rows": 10, "handlers": Json(["h"]), **begin}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")  # which an empty table would get
        for statement, index in (
            (inbox.CLAIM, "ix_service_webhook_deliveries_due"),
            (outbox.CLAIM, "ix_service_event_deliveries_due"),
            (outbox.LOOK, "ix_service_event_deliveries_due"),
            (outbox.LOOK, "service_pending_events_pkey"),
            (fan_out.TAKE_PENDING, "service_pending_events_pkey"),
        ):
            compiled = statement.compiled(POSTGRES)
            plan = connection.execute(f"EXPLAIN {compiled.text}".encode(), compiled.bind(values)).fetchall()
            assert index in "".join(line for (line,) in plan)
            assert "Sort" not in "".join(line for (line,) in plan)


async def test_dead_deliveries_are_found_without_reading_the_others(url: str, store: PostgresStore) -> None:
    from go_services_store_sql import inbox_replay
    from go_services_store_sql.dialect import POSTGRES

    await store.queues.accept(delivery())
    names = [name for (name,) in rows(url, f"SELECT column_name FROM information_schema.columns WHERE {COLUMNS}")]
    others = ", ".join(name for name in names if name not in ("id", "delivery_id"))
    copy = f"""INSERT INTO service_webhook_deliveries (id, delivery_id, {others})
        SELECT 'id' || lpad(number::text, 6, '0'), number::text, {others}
        FROM service_webhook_deliveries, generate_series(1, 20000) AS number RETURNING 1"""
    assert len(rows(url, copy)) == 20_000
    rows(url, "UPDATE service_webhook_deliveries SET status = 'dead' WHERE id LIKE 'id%777' RETURNING 1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE service_webhook_deliveries")
        for values in ({}, {"provider_id": delivery().provider_id}):
            names = [*values, "dead"]
            compiled = inbox_replay.listing(tuple(names)).compiled(POSTGRES)
            given = compiled.bind({**values, "after": "", "rows": 10})
            plan = connection.execute(f"EXPLAIN (ANALYZE, FORMAT TEXT) {compiled.text}".encode(), given).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert "ix_service_webhook_deliveries_dead" in text
            assert "ix_service_event_deliveries_dead" in text
            assert "Seq Scan on service_webhook_deliveries" not in text
    page = await store.queues.deliveries(dead=True, limit=15)
    assert [one.id for one in page.items] == [f"id{number:03}777" for number in range(15)]
    assert page.next is not None
    rest = await store.queues.deliveries(dead=True, after=page.next)
    assert (len(rest.items), rest.next) == (5, None)


async def test_credentials_that_are_due_are_walked_in_order_by_an_index(url: str) -> None:
    from datetime import UTC, datetime

    from go_services_store_sql import outlook
    from go_services_store_sql.dialect import POSTGRES

    now = datetime.now(UTC)
    values = {"provider_id": "kit", "before": now, "at": now, "id": "x", "rows": 10}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_bitmapscan = off")
        connection.execute("SET enable_hashjoin = off")
        connection.execute("SET enable_mergejoin = off")
        for column, index in (("expires_at", "ending"), ("created_at", "unused")):
            compiled = outlook.DUE[column].compiled(POSTGRES)
            plan = connection.execute(f"EXPLAIN {compiled.text}".encode(), compiled.bind(values)).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert f"ix_service_credentials_{index}" in text
            assert "Sort" not in text


async def test_event_of_a_delivery_has_its_time_in_every_time_zone_of_a_session(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    other = PostgresStore(PostgresSettings(url=url))
    await other.open()
    try:
        await other.queues.register_handlers({"h": "*"}, now=now() - timedelta(days=1))
        await other.queues.accept(delivery())
        (held,) = await take(other)
        told = event("webhook.issue", id=held.id)
        assert await other.queues.pass_on([(held, told)]) == []
    finally:
        await other.aclose()
    (given,) = await take(store, "h")
    assert given.event == told


async def test_row_of_an_event_is_written_once(url: str, store: PostgresStore) -> None:
    await store.queues.register_handlers({"h": "*"}, now=now())
    await emit(store, event(), event())
    place = "SELECT ctid::text FROM service_lifecycle_outbox ORDER BY event_id"
    before = rows(url, place)
    assert await store.queues.settle_many(await take(store, "h"), "done") == []
    assert rows(url, place) == before
    assert rows(url, "SELECT count(*) FROM service_pending_events") == [(0,)]


FEW_DUE = (
    """INSERT INTO service_lifecycle_outbox (id, event_id, event_name, provider_id, scope_type, scope_id, payload, status,
      occurred_at, created_at, updated_at)
    SELECT n::text, n::text, 'n', 'p', 'org', 'o', '{}', 'committed', now(), now(), now()
    FROM generate_series(1, 400) AS n""",
    """INSERT INTO service_event_deliveries (event_id, handler, status, next_attempt_at, updated_at)
    SELECT n::text, 'h', CASE WHEN n > 380 THEN 'processing' ELSE 'delivered' END, now(), now()
    FROM generate_series(1, 400) AS n""",
    """INSERT INTO service_webhook_deliveries (id, provider_id, delivery_id, event, digest, status, next_attempt_at,
      received_at, created_at, updated_at)
    SELECT n::text, 'p', n::text, 'n', '', CASE WHEN n > 380 THEN 'processing' ELSE 'processed' END, now(),
      now(), now(), now()
    FROM generate_series(1, 400) AS n""",
    "ANALYZE",
    "SET enable_seqscan = off",  # which so small a table would get
)


async def test_claims_are_ended_by_their_key_however_few_are_due(url: str) -> None:
    """The index of what is due has an entry for each that was settled since the last VACUUM; all of it would be read."""
    from go_services_store_sql import give_back, inbox, outbox, pass_on
    from go_services_store_sql.dialect import POSTGRES, Json

    of_inbox, of_outbox = (
        ("service_webhook_deliveries", ["400", "w", 1]),
        ("service_event_deliveries", ["400", "h", "w", 1]),
    )
    values = {"status": "delivered", "error": "", "delay": 0, "seconds": 1.0}
    with psycopg.connect(url, autocommit=True) as connection:
        for text in FEW_DUE:
            connection.execute(text.encode())
        for statement, (table, held) in (
            (inbox.HEARTBEAT, of_inbox),
            (inbox.SETTLE_MANY, of_inbox),
            (pass_on.END, of_inbox),
            (give_back.GIVE_BACK["inbox"], (of_inbox[0], ["400", "", "w", 1])),
            (outbox.HEARTBEAT, of_outbox),
            (outbox.SETTLE_MANY, of_outbox),
            (give_back.GIVE_BACK["outbox"], of_outbox),
        ):
            compiled = statement.compiled(POSTGRES)
            given = compiled.bind({**values, "held": Json([held] * 20)})
            lines = connection.execute(f"EXPLAIN {compiled.text}".encode(), given).fetchall()
            plan = "\n".join(line for (line,) in lines)
            assert f"{table}_pkey" in plan
            assert "_due" not in plan
