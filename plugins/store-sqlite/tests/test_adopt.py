"""Adoption of a Go system's file, read afterwards through the facets."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from go_services_core.admin import AdoptedTable, AdoptOptions
from go_services_core.errors import Conflict, StoreError
from go_services_core.model import KeyRef, Scope, Sealed
from go_services_core.resources import BudgetKey, Dispatch
from go_services_core.testing.checks.store_sealed import counted, listed
from go_services_core.testing.go_database import BODY, CIPHERTEXT, statements
from go_services_core.wrapping_keys import Resealed
from go_services_store_sql.go_schema import COLUMNS
from go_services_store_sqlite.store import SqliteStore

GITHUB = Scope("user", "u1")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def query(path: Path, *texts: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[tuple[Any, ...]] = []
        for text in texts:
            rows = connection.execute(text).fetchall()
    return rows


@pytest.fixture
def go_path(path: Path) -> Path:
    """A file of the Go system with rows of every kind."""
    query(path, *statements("sqlite"))
    return path


@pytest.fixture
async def adopted(go_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(go_path, busy_timeout=0.2)
    await store.admin.adopt(AdoptOptions(handlers={"app.audit": "connection.*"}))
    await store.open()
    yield store
    await store.aclose()


def content(path: Path) -> bytes:
    return path.read_bytes()


def counts(path: Path) -> dict[str, int]:
    return {table: query(path, f"SELECT count(*) FROM {table}")[0][0] for table in COLUMNS}


async def test_sample_has_rows_in_all_tables_of_the_go_system(go_path: Path) -> None:
    assert len(COLUMNS) == 21
    assert all(counts(go_path).values())


async def test_report_counts_every_row_of_every_table(go_path: Path) -> None:
    before = counts(go_path)
    steps: list[str] = []
    report = await SqliteStore(go_path).admin.adopt(AdoptOptions(), progress=steps.append)
    assert {line.name: line.rows for line in report} == before
    after = counts(go_path)
    assert after.pop("service_activity_entries") == before["service_activity_entries"] + before["service_events"]
    assert after == {table: rows for table, rows in before.items() if table != "service_activity_entries"}
    assert steps[0] == "service_connections: 3 rows"
    changed = {line.name: line.changed for line in report if line.changed}
    assert changed == {
        "service_connections": 1,
        "service_credentials": 1,
        "service_lifecycle_outbox": 2,
        "service_webhook_deliveries": 1,
        "service_installations": 1,
        "service_sync_jobs": 1,
    }


async def test_connections_and_ciphertexts_are_kept(adopted: SqliteStore, go_path: Path) -> None:
    connection, credential = await adopted.connections.load("c1")
    assert connection.auth_kind == "oauth2_auth_code"
    assert connection.created_at == MOMENT.replace(microsecond=123456)
    assert connection.updated_at == MOMENT.replace(hour=4)
    assert credential is not None
    assert (credential.version, credential.payload_format, credential.refreshable) == (
        2,
        "active_credential_json",
        True,
    )
    assert (credential.sealed.ciphertext, credential.sealed.key.key_id) == (CIPHERTEXT, "app-key")
    assert (credential.requested, credential.granted) == (("repo",), ("repo",))
    shop, key = await adopted.connections.load("c2")
    assert (shop.auth_kind, shop.scope, shop.status, shop.refresh_state) == (
        "api_key",
        Scope("org", "o1"),
        "errored",
        "backing_off",
    )
    assert (shop.last_error, key is not None and key.granted) == ("timeout", ())
    other, none = await adopted.connections.load("c3")
    assert (other.inherits_from, none, other.created_at) == ("c1", None, MOMENT)
    rows = query(go_path, "SELECT id, status, revocation_reason, destroyed_at FROM service_credentials ORDER BY id")
    assert rows[0] == ("k1", "revoked", "rotated", None)
    assert rows[3] == ("k4", "revoked", "expired", "2026-01-02 03:04:05.000000")


async def test_credentials_are_sealed_values_of_keys_without_a_backend_and_bodies_in_clear_are_none(
    adopted: SqliteStore,
) -> None:
    old = {("credential", KeyRef("", "app-key", 1)): 2, ("credential", KeyRef("", "app-key", 2)): 1}
    assert await counted(adopted) == old
    (row,) = await listed(adopted, "credential", key=KeyRef("", "app-key", 2))
    assert (row.record_id, row.record_version, row.scope) == ("c1", 2, GITHUB)
    assert (row.payload_format, row.sealed.ciphertext) == ("active_credential_json", CIPHERTEXT)
    new = Sealed(b"sealed anew", KeyRef("appkey", "key-1", 1))
    assert list(await adopted.sealed.replace([Resealed(row=row, sealed=new, payload_format="v2")])) == []
    _, active = await adopted.connections.load("c1")
    assert active is not None
    assert (active.sealed, active.payload_format) == (new, "v2")
    assert await listed(adopted, "credential", other_than=new.key) == await listed(
        adopted, "credential", key=KeyRef("", "app-key", 1)
    )


async def test_connection_that_the_go_system_deleted_is_listed_and_marked_as_others(
    adopted: SqliteStore, go_path: Path
) -> None:
    query(go_path, "UPDATE service_connections SET deleted_at = updated_at WHERE id = 'c2'")
    assert "c2" in [row.record_id for row in await listed(adopted, "credential")]
    assert await adopted.sealed.mark("c2", "unreadable", error="app-key is not here") is True
    assert await adopted.sealed.mark("c2", "unreadable", error="app-key is not here") is False


async def test_grants_and_cursors_and_budgets_are_read(adopted: SqliteStore) -> None:
    grants = await adopted.connections.grants("c1")
    assert grants is not None
    assert (grants.version, grants.granted) == (1, ("repo",))
    cursor = await adopted.resources.cursor("c1", "github", "issues", "r1")
    assert cursor is not None
    assert (cursor.cursor, cursor.last_synced_at) == ("AbC", MOMENT)
    budget = await adopted.budgets.peek(BudgetKey("github", GITHUB, "core"))
    assert budget is not None
    assert (budget.limit, budget.remaining) == (5000.0, 4999.0)
    assert (await adopted.budgets.take(BudgetKey("github", GITHUB, "core"), 4999, limit=5000, window=60)).granted


async def test_subscriptions_and_installations_are_read(adopted: SqliteStore) -> None:
    found = await adopted.resources.subscription_by_channel("github", "ch1")
    assert found is not None
    assert (found.id, found.status, found.version, found.expires_at) == ("s1", "active", 1, MOMENT.replace(year=2027))
    cancelled = await adopted.resources.subscription("s2")
    assert cancelled is not None
    assert (cancelled.status, cancelled.status_reason) == ("cancelled", "not needed")
    apps = {app.id: app for app in (await adopted.resources.installations()).items}
    assert (apps["i2"].status, apps["i1"].status, apps["i1"].status_reason) == ("active", "uninstalled", "superseded")


async def test_pending_events_reach_named_handlers_and_failed_ones_are_dead(adopted: SqliteStore) -> None:
    (dead,) = (await adopted.queues.list("outbox", status="dead")).items
    assert (dead.id, dead.handler, dead.attempts, dead.error) == ("ev4:go-services", "go-services", 8, "gave up")
    claims = await adopted.queues.claim("outbox", owner="kit", lease=30, limit=10, handlers=["app.audit"])
    assert [claim.id for claim in claims] == ["ev2:app.audit", "ev3:app.audit"]
    event = claims[0].event
    assert event is not None
    assert (event.source, event.payload, event.occurred_at) == ("go-services", {"n": 2}, MOMENT)
    assert await adopted.queues.requeue("outbox", "ev4:go-services")


async def test_deliveries_keep_their_bodies_and_are_never_claimed(adopted: SqliteStore) -> None:
    assert await adopted.queues.claim("inbox", owner="kit", lease=30, limit=10) == []
    items = {item.id: item for item in (await adopted.queues.list("inbox")).items}
    assert {name: item.status for name, item in items.items()} == {"w1": "processed", "w2": "dead", "w3": "dead"}
    assert "without its headers" in items["w2"].error
    delivery = await adopted.queues.delivery("w1")
    assert delivery is not None
    assert (delivery.sealed.ciphertext, delivery.digest) == (BODY, hashlib.sha256(BODY).digest())
    assert delivery.sealed.key.backend == ""
    empty = await adopted.queues.delivery("w3")
    assert empty is not None
    assert empty.sealed.ciphertext == b""


async def test_jobs_run_again_from_their_checkpoint_under_their_key(adopted: SqliteStore, go_path: Path) -> None:
    (claim,) = await adopted.queues.claim("jobs", owner="kit", lease=30, limit=10, kinds=["sync"])
    assert claim.job is not None
    assert (claim.id, claim.job.mode, claim.job.checkpoint, claim.job.scope) == ("j1", "full", "page-7", GITHUB)
    done = await adopted.queues.job("j2")
    assert done is not None
    assert done.status == "succeeded"
    assert query(go_path, "SELECT sync_job_id, requested_by FROM service_sync_job_idempotency") == [("j1", "ops")]


async def test_notifications_are_not_sent_twice(adopted: SqliteStore) -> None:
    def dispatch(key: str) -> Dispatch:
        return Dispatch(id=key, key=key, event_id="ev1", projector="mail", definition_code="welcome", recipient_key="u")

    assert (await adopted.once.begin_dispatch(dispatch("key-1"), owner="kit", seconds=30)).state == "done"
    assert (await adopted.once.begin_dispatch(dispatch("key-2"), owner="kit", seconds=30)).state == "new"


async def test_audit_events_become_activity_and_stay_where_they_are(adopted: SqliteStore, go_path: Path) -> None:
    entries = {entry.id: entry for entry in (await adopted.log.activity()).items}
    assert entries["a1"].metadata == {"b": 2}
    event = entries["e1"]
    assert (event.action, event.status, event.connection_id, event.created_at) == ("refresh", "error", "c1", MOMENT)
    assert event.metadata == {"a": 1, "status": "failure", "error": "HTTP 500"}
    assert query(go_path, "SELECT id, metadata, created_at FROM service_events") == [
        ("e1", '{"a": 1}', "2026-01-02 03:04:05")
    ]


async def test_sync_tables_keep_every_value(adopted: SqliteStore, go_path: Path) -> None:
    assert query(go_path, "SELECT rules FROM service_mapping_specs") == [('[{"from": "login"}]',)]
    assert query(go_path, "SELECT cursor, sequence_num FROM service_sync_checkpoints") == [("X", 3)]
    assert query(go_path, "SELECT internal_id, confidence FROM service_identity_bindings") == [("7", 0.5)]
    assert query(go_path, "SELECT checkpoint_id, source_payload FROM service_sync_conflicts") == [
        ("p1", '{"login": "a"}')
    ]
    assert query(go_path, "SELECT mapping_spec_id FROM service_sync_bindings") == [("m1",)]
    assert query(go_path, "SELECT occurred_at FROM service_sync_change_log") == [("2026-01-02 03:04:05.000000",)]


async def test_adopted_database_is_verified_and_has_no_old_table(adopted: SqliteStore, go_path: Path) -> None:
    assert await adopted.admin.verify() == []
    assert query(go_path, "SELECT name FROM sqlite_master WHERE name LIKE 'go_%'") == []
    assert query(go_path, "PRAGMA foreign_key_check") == []


async def test_dry_run_reports_the_same_and_changes_no_byte(go_path: Path) -> None:
    before = content(go_path)
    planned = await SqliteStore(go_path).admin.adopt(AdoptOptions(), dry_run=True)
    assert content(go_path) == before
    assert await SqliteStore(go_path).admin.adopt(AdoptOptions()) == planned


async def test_bodies_can_be_dropped_and_kinds_told(go_path: Path) -> None:
    options = AdoptOptions(auth_kinds={"github": "oauth2_client_credentials"}, drop_bodies=True)
    report = await SqliteStore(go_path).admin.adopt(options)
    assert BODY not in content(go_path)
    assert query(go_path, "SELECT auth_kind FROM service_connections ORDER BY id") == [
        ("oauth2_client_credentials",),
        ("api_key",),
        ("oauth2_client_credentials",),
    ]
    notes = {line.name: line.note for line in report}
    assert notes["service_connections"] == ""
    assert "clear" not in notes["service_webhook_deliveries"]
    assert "--handler" in notes["service_lifecycle_outbox"]


async def test_foreign_key_of_the_application_still_holds(go_path: Path) -> None:
    query(
        go_path,
        "CREATE TABLE app_links (id TEXT REFERENCES service_connections (id) ON DELETE CASCADE)",
        "INSERT INTO app_links VALUES ('c1')",
    )
    await SqliteStore(go_path).admin.adopt(AdoptOptions())
    query(go_path, "PRAGMA foreign_keys = ON", "DELETE FROM service_connections WHERE id = 'c1'")
    assert query(go_path, "SELECT * FROM app_links") == []


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        ("DROP TABLE service_events", StoreError, "table service_events is missing"),
        ("ALTER TABLE service_sync_cursors ADD COLUMN extra TEXT", StoreError, "unknown column extra"),
        ("ALTER TABLE service_credentials DROP COLUMN payload_format", StoreError, "no column payload_format"),
        ("CREATE TABLE service_other (id TEXT)", StoreError, "table service_other is unknown"),
        ("UPDATE service_connections SET status = 'odd' WHERE id = 'c1'", Conflict, "1 rows of service_connections"),
        ("UPDATE service_connections SET scope_type = 'team' WHERE id = 'c1'", Conflict, "neither a user nor"),
        ("UPDATE service_sync_cursors SET created_at = 'soon'", Conflict, "a time that cannot be read"),
        ("UPDATE service_sync_jobs SET metadata = '[]'", Conflict, "no JSON of the right kind in metadata"),
        ("UPDATE service_credentials SET connection_id = 'gone' WHERE id = 'k1'", Conflict, "do not exist"),
    ],
)
async def test_what_cannot_be_adopted_is_named_and_nothing_changes(
    go_path: Path, damage: str, error: type[Exception], said: str
) -> None:
    query(go_path, damage)
    before = content(go_path)
    with pytest.raises(error, match=said):
        await SqliteStore(go_path).admin.adopt(AdoptOptions())
    assert content(go_path) == before


async def test_database_that_is_ours_is_not_adopted(adopted: SqliteStore, tmp_path: Path) -> None:
    for store in (adopted, SqliteStore(tmp_path / "own.db")):
        await store.migrate()
        with pytest.raises(StoreError, match="already"):
            await store.admin.adopt(AdoptOptions())


async def test_go_database_is_not_migrated(go_path: Path) -> None:
    with pytest.raises(StoreError, match="tables of the Go system"):
        await SqliteStore(go_path).admin.plan()


async def test_report_is_made_of_plain_records(go_path: Path) -> None:
    (first, *_) = await SqliteStore(go_path).admin.adopt(AdoptOptions(), dry_run=True)
    assert first == AdoptedTable(
        name="service_connections",
        rows=3,
        changed=1,
        note="2 are taken for oauth2_auth_code; --auth says otherwise",
    )
