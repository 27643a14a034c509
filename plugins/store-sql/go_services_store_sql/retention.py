"""Retention: history is removed in short commits, going through each table by its key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from attrs import frozen

from go_services_core.resources import HISTORY, check_policy

from .credentials import KEPT
from .driver import Driver
from .statement import Row, Statement, Steps

CONDITIONS = {
    # A delivery's event has its id; handlers that still have to do with it read the request.
    "service_webhook_deliveries": """status IN ('processed', 'superseded', 'quarantined', 'dropped')
        AND updated_at < @later(age) AND NOT EXISTS (
        SELECT 1 FROM service_pending_events AS new WHERE new.event_id = service_webhook_deliveries.id)
        AND NOT EXISTS (
        SELECT 1 FROM service_event_deliveries AS open WHERE open.event_id = service_webhook_deliveries.id
          AND open.status <> 'delivered')""",
    "service_lifecycle_outbox": """updated_at < @later(age) AND NOT EXISTS (
        SELECT 1 FROM service_pending_events AS new WHERE new.event_id = service_lifecycle_outbox.event_id)
        AND NOT EXISTS (
        SELECT 1 FROM service_event_deliveries AS open WHERE open.event_id = service_lifecycle_outbox.event_id
          AND (open.status <> 'delivered' OR open.updated_at >= @later(age)))""",
    "service_sync_jobs": "status = 'succeeded' AND updated_at < @later(age)",
    "service_oauth_attempts": "expires_at < @later(age)",
    "service_refresh_intents": """coalesce(settled_at, sent_at) < @later(age) AND NOT EXISTS (
        SELECT 1 FROM service_credentials AS used WHERE used.connection_id = service_refresh_intents.connection_id
          AND used.version = service_refresh_intents.version AND used.status = 'active')""",
    "service_replay_ledger": "expires_at < @later(age)",
    "service_idempotency": """updated_at < @later(age)
        AND (status IN ('done', 'failed') OR (status IN ('running', 'resumed') AND expires_at < @later(age)))""",
    "service_notification_dispatches": "status IN ('sent', 'failed') AND updated_at < @later(age)",
    "service_activity_entries": "created_at < @later(age)",
    "service_grant_events": """created_at < @later(age) AND EXISTS (
        SELECT 1 FROM service_grant_events AS newer WHERE newer.connection_id = service_grant_events.connection_id
          AND (newer.created_at, newer.id) > (service_grant_events.created_at, service_grant_events.id))""",
    "service_grant_snapshots": """created_at < @later(age) AND EXISTS (
        SELECT 1 FROM service_grant_snapshots AS newer
        WHERE newer.connection_id = service_grant_snapshots.connection_id
          AND newer.version > service_grant_snapshots.version)""",
    "service_credentials": f"""status <> 'active' AND destroyed_at IS NULL AND updated_at < @later(age)
        AND NOT {KEPT}""",
    "service_subscriptions": """(deleted_at < @later(age)
        OR (status = 'cancelled' AND replaced_by IS NOT NULL AND updated_at < @later(age)))""",
    "service_installations": "status = 'uninstalled' AND updated_at < @later(age)",
    "service_rate_limit_state": """reset_at < @later(age)
        AND (paused_until IS NULL OR paused_until < @later(age))""",
    "service_event_positions": "updated_at < @later(age)",
}
KEYS = {"service_replay_ledger": "key", "service_idempotency": "key"}
# The row of a credential stays, so that no version number is ever used for another ciphertext.
REMOVE = {
    "service_credentials": """UPDATE service_credentials SET encrypted_payload = :empty, destroyed_at = @now
        @step RETURNING @key""",
}


@frozen
class History:
    """The statements for one table. The condition is in the deletion itself: a row may have changed since it was read.

    Args:
        last: the key of the last row of the next step.
        count: how many of the step's rows are history.
        remove: removes them.
    """

    last: Statement[Row]
    count: Statement[Row]
    remove: Statement[Row]
    overwrites: bool


def _history(table: str) -> History:
    def statement(text: str) -> Statement[Row]:
        text = text.replace("@step", "WHERE @key > :after AND @key <= :last AND @condition")
        text = text.replace("@condition", CONDITIONS[table])
        return Statement(text.replace("@table", table).replace("@key", KEYS.get(table, "id")))

    return History(
        last=statement(
            "SELECT max(@key) FROM (SELECT @key FROM @table WHERE @key > :after ORDER BY @key LIMIT :rows) AS step"
        ),
        count=statement("SELECT count(*) FROM @table @step"),
        remove=statement(REMOVE.get(table, "DELETE FROM @table @step RETURNING @key")),
        overwrites=table in REMOVE,
    )


TABLES: Mapping[str, History] = {table: _history(table) for table in HISTORY}


def _step(history: History, *, after: str, keep: float, rows: int, remove: bool) -> Steps[tuple[str | None, int]]:
    """Go through the next rows: the key of the last one, None at the end, and how many were history."""
    found = yield from history.last.first(after=after, rows=rows)
    if found is None or found[0] is None:
        return None, 0
    step = {"after": after, "last": found[0], "age": -float(keep), "empty": b""}
    if remove:
        removed = len((yield from history.remove(**step)))
    else:
        ((removed,),) = yield from history.count(**step)
    return found[0], removed


async def prune(driver: Driver, policy: Mapping[str, float], *, batch: int, dry_run: bool) -> Mapping[str, int]:
    """See :meth:`go_services_core.protocols.Store.prune`."""
    check_policy(policy, batch)
    return {table: await _prune(driver, TABLES[table], keep, batch, dry_run) for table, keep in policy.items()}


async def _prune(driver: Driver, history: History, keep: float, batch: int, dry_run: bool) -> int:
    total, after = 0, ""
    while True:
        step = partial(_step, history, after=after, keep=keep, rows=batch, remove=not dry_run)
        if dry_run:
            last, removed = await driver.read(step)
        else:
            last, removed = await driver.run(step, destroys=history.overwrites, alone=True)
        total += removed
        if last is None:
            return total
        after = last
