"""What is in the tables, for operators and for the Go system, which shares their names."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from go_services_core.testing.checks.store import attempt, change, credential, established, event, new_id, now
from go_services_core.testing.checks.store_budgets import REST, entry
from go_services_core.testing.checks.store_jobs import job
from go_services_core.testing.checks.store_queues import delivery, emit, take
from go_services_store_sqlite.store import SqliteStore

GO_COLUMNS = {
    "service_connections": "id provider_id scope_type scope_id external_account_id status inherits_from_connection_id "
    "last_error created_at updated_at deleted_at",
    "service_credentials": "id connection_id version encrypted_payload token_type requested_scopes granted_scopes "
    "expires_at rotates_at refreshable status grant_version encryption_key_id encryption_version revocation_reason "
    "created_at updated_at payload_format payload_version",
    "service_grant_snapshots": "id connection_id provider_id scope_type scope_id version requested_grants "
    "granted_grants metadata captured_at created_at updated_at",
    "service_grant_events": "id connection_id provider_id scope_type scope_id event_type requested_grants "
    "granted_grants added_grants removed_grants metadata created_at",
    "service_lifecycle_outbox": "id event_id event_name provider_id scope_type scope_id connection_id payload metadata "
    "status attempts next_attempt_at last_error occurred_at created_at updated_at",
    "service_webhook_deliveries": "id provider_id delivery_id status attempts next_attempt_at payload created_at "
    "updated_at",
    "service_activity_entries": "id provider_id scope_type scope_id connection_id installation_id subscription_id "
    "sync_job_id channel action object_type object_id actor actor_type status metadata created_at",
    "service_notification_dispatches": "id event_id projector definition_code recipient_key idempotency_key status "
    "error metadata created_at",
    "service_subscriptions": "id connection_id provider_id resource_type resource_id channel_id "
    "remote_subscription_id callback_url verification_token_ref status expires_at metadata last_notified_at "
    "created_at updated_at deleted_at",
    "service_sync_cursors": "id connection_id provider_id resource_type resource_id cursor status last_synced_at "
    "metadata created_at updated_at",
    "service_installations": "id provider_id scope_type scope_id install_type status granted_at revoked_at metadata "
    "created_at updated_at",
    "service_rate_limit_state": "id provider_id scope_type scope_id bucket_key limit remaining reset_at retry_after "
    "metadata created_at updated_at",
    "service_sync_jobs": "id connection_id provider_id mode checkpoint status attempts next_attempt_at metadata "
    "created_at updated_at",
    "service_sync_job_idempotency": "id scope_type scope_id provider_id connection_id mode idempotency_key sync_job_id "
    "requested_by created_at updated_at",
    "service_mapping_specs": "id spec_id provider_id scope_type scope_id name description source_object target_model "
    "schema_ref version status rules metadata published_at created_at updated_at",
    "service_sync_bindings": "id provider_id scope_type scope_id connection_id mapping_spec_id source_object "
    "target_model direction status metadata created_at updated_at",
    "service_sync_checkpoints": "id provider_id scope_type scope_id connection_id sync_binding_id direction cursor "
    "sequence_num source_version idempotency_seed metadata last_event_at created_at updated_at",
    "service_identity_bindings": "id provider_id scope_type scope_id connection_id sync_binding_id source_object "
    "external_id internal_type internal_id match_kind confidence metadata created_at updated_at",
    "service_sync_conflicts": "id provider_id scope_type scope_id connection_id sync_binding_id checkpoint_id "
    "source_object external_id source_version idempotency_key policy reason status source_payload target_payload "
    "resolution resolved_by resolved_at metadata created_at updated_at",
    "service_sync_change_log": "id provider_id scope_type scope_id connection_id sync_binding_id direction "
    "source_object external_id source_version idempotency_key payload metadata occurred_at created_at",
}


def rows(path: Path, text: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(text).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("table", GO_COLUMNS)
async def test_table_has_the_columns_of_the_go_system(path: Path, store: SqliteStore, table: str) -> None:
    columns = {name for _, name, *_ in rows(path, f"PRAGMA table_info({table})")}
    assert set(GO_COLUMNS[table].split()) <= columns


async def test_times_have_one_width(path: Path, store: SqliteStore) -> None:
    made = await established(store)
    opened = await store.connections.open_refresh(made.id, owner="a", lease=1.5, intent_id=new_id())
    await store.queues.accept(delivery())
    await take(store, lease=2.25)
    await store.once.claim("key", ttl=0.5)
    await store.once.begin("command", "key", digest=b"d", owner="a", seconds=0.5)
    await store.queues.enqueue(job(delay=0.5))
    await store.budgets.take(REST, 1, limit=1, window=0.5)
    await store.log.record([entry()])
    times = rows(
        path,
        """SELECT created_at FROM service_connections UNION ALL SELECT expires_at FROM service_leases
        UNION ALL SELECT sent_at FROM service_refresh_intents UNION ALL SELECT expires_at FROM service_replay_ledger
        UNION ALL SELECT next_attempt_at FROM service_webhook_deliveries
        UNION ALL SELECT expires_at FROM service_idempotency UNION ALL SELECT next_attempt_at FROM service_sync_jobs
        UNION ALL SELECT reset_at FROM service_rate_limit_state
        UNION ALL SELECT created_at FROM service_activity_entries""",
    )
    assert len(times) == 9
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", time) for (time,) in times)
    assert opened.lease.fence == 1


async def test_superseded_and_disconnected_versions_stay_without_their_ciphertext(
    path: Path, store: SqliteStore
) -> None:
    made = await established(store)
    await store.connections.establish(evolve(change(), credential=credential(made.id, 2, granted=None)))
    select = """SELECT version, status, revocation_reason, length(encrypted_payload) > 0, destroyed_at IS NULL,
        granted_scopes FROM service_credentials ORDER BY version"""
    assert rows(path, select) == [(1, "revoked", "rotated", 1, 1, '["read"]'), (2, "active", "", 1, 1, "null")]
    await store.connections.disconnect(made.id, reason="user asked", event=event())
    assert [row[:5] for row in rows(path, select)] == [
        (1, "revoked", "rotated", 0, 0),
        (2, "revoked", "user asked", 0, 0),
    ]


async def test_change_of_grants_is_an_event_with_what_was_added_and_removed(path: Path, store: SqliteStore) -> None:
    made = await established(store)
    new = credential(made.id, 2, granted=("write",))
    await store.connections.establish(evolve(change(), credential=new))
    select = "SELECT event_type, added_grants, removed_grants FROM service_grant_events ORDER BY rowid"
    assert rows(path, select) == [
        ("expanded", '["read"]', "[]"),
        ("downgraded", '["write"]', '["read"]'),
    ]


async def test_refresh_leaves_a_settled_intent(path: Path, store: SqliteStore) -> None:
    made = await established(store)
    facet = store.connections
    for outcome in ("failed", "saved", "terminal", "broken"):
        opened = await facet.open_refresh(made.id, owner="a", lease=30, intent_id=new_id())
        select = "SELECT version, outcome, settled_at FROM service_refresh_intents ORDER BY fence DESC LIMIT 1"
        assert rows(path, select) == [(opened.credential.version, "", None)]
        if outcome == "saved":
            new = credential(made.id, opened.credential.version + 1)
            await facet.close_refresh(new, lease=opened.lease, active_version=opened.credential.version, event=event())
        elif outcome == "broken":
            await facet.disconnect(made.id, reason="asked", event=event())
        else:
            terminal = outcome == "terminal"
            await facet.fail_refresh(opened.lease, error="e", terminal=terminal, event=None)
            if terminal:
                again = credential(made.id, opened.credential.version + 1)
                await facet.establish(evolve(change(), credential=again))
        ((_, settled, at),) = rows(path, select)
        assert settled == outcome
        assert at is not None


async def test_event_is_history_when_its_last_handler_is_done(path: Path, store: SqliteStore) -> None:
    await store.queues.register_handlers({"a": "*", "b": "*"}, now=now())
    await emit(store, event())
    assert rows(path, "SELECT count(*) FROM service_pending_events") == [(1,)]
    claims = await take(store, "a", "b")
    assert rows(path, "SELECT count(*) FROM service_pending_events") == [(0,)]
    for claim, history in zip(claims, (0, 1), strict=True):
        await store.queues.settle(claim, "done")
        with sqlite3.connect(path) as connection:
            for table in ("service_lifecycle_outbox", "service_event_deliveries"):
                connection.execute(f"UPDATE {table} SET updated_at = '2020-01-01 00:00:00.000000'")
        counts = await store.prune({"service_lifecycle_outbox": 3600}, dry_run=True)
        assert counts == {"service_lifecycle_outbox": history}


async def test_state_and_binding_are_stored_hashed_and_old_attempts_are_dropped(path: Path, store: SqliteStore) -> None:
    old = attempt(b"old state", b"binding", expires_at=now().replace(year=2020))
    await store.connections.begin_attempt(old)
    await store.connections.begin_attempt(attempt(b"secret state", b"secret binding"))
    assert rows(path, "SELECT count(*) FROM service_oauth_attempts") == [(1,)]
    assert not any(b"secret state" in file.read_bytes() for file in path.parent.iterdir())


async def test_replay_ledger_drops_keys_that_are_over(path: Path, store: SqliteStore) -> None:
    await store.once.claim("short", ttl=-1)
    await store.once.claim("long", ttl=60)
    assert rows(path, "SELECT key FROM service_replay_ledger") == [("long",)]
