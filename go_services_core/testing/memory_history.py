"""Retention of the memory store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import datetime
from typing import Any

from ..model import T
from ..resources import check_policy
from .memory_disconnect import kept
from .memory_tables import Slot, Tables, Window


def prune(tables: Tables, policy: Mapping[str, float], *, batch: int, dry_run: bool) -> Mapping[str, int]:
    """See :meth:`go_services_core.protocols.Store.prune`. Tables that this store does without have no history."""
    check_policy(policy, batch)
    counts = {}
    for table, keep in policy.items():
        cutoff = tables.later(-keep)
        if table == "service_credentials":
            counts[table] = _destroy(tables, cutoff, dry_run=dry_run)
        elif table == "service_grant_snapshots":
            counts[table] = _forget_all_but_newest(tables.snapshots, "captured_at", cutoff, dry_run=dry_run)
        elif table == "service_grant_events":
            counts[table] = _forget_all_but_newest(tables.grant_events, "occurred_at", cutoff, dry_run=dry_run)
        else:
            rows, old = _history(tables).get(table, ({}, ()))
            keys = [key for key, at in old if at < cutoff]
            counts[table] = len(keys)
            for key in () if dry_run else keys:
                del rows[key]
                if table == "service_lifecycle_outbox":
                    _forget_deliveries(tables, key)
    return counts


def _history(tables: Tables) -> dict[str, tuple[MutableMapping[Any, Any], Iterable[tuple[Any, datetime]]]]:
    """By table: the rows, and those that are history since when."""

    def changed(rows: Mapping[Any, Any], *statuses: str) -> list[tuple[Any, datetime]]:
        return [(key, row.changed) for key, row in rows.items() if row.status in statuses]

    def since(rows: Mapping[Any, Any], time: Callable[[Any], datetime]) -> list[tuple[Any, datetime]]:
        return [(key, time(row)) for key, row in rows.items()]

    over = {key: row for key, row in tables.intents.items() if tables.active.get(row.connection_id) != row.version}
    left = {key: row for key, row in tables.ledger.items() if row.status == "running"}
    replaced = {
        key: row
        for key, row in tables.subscriptions.items()
        if row.status == "cancelled" and row.replaced_by is not None
    }
    uninstalled = {key: row for key, row in tables.installations.items() if row.status == "uninstalled"}
    return {
        "service_lifecycle_outbox": (tables.events, _delivered(tables)),
        "service_webhook_deliveries": (
            tables.inbox,
            [
                (key, at)
                for key, at in changed(tables.inbox, "processed", "superseded", "quarantined", "dropped")
                if _is_handled(tables, key)
            ],
        ),
        "service_sync_jobs": (tables.jobs, changed(tables.jobs, "succeeded")),
        "service_oauth_attempts": (tables.attempts, since(tables.attempts, lambda row: row.attempt.expires_at)),
        "service_refresh_intents": (tables.intents, since(over, lambda row: row.settled_at or row.sent_at)),
        "service_replay_ledger": (tables.once, since(tables.once, lambda until: until)),
        "service_idempotency": (
            tables.ledger,
            [*changed(tables.ledger, "done", "failed"), *since(left, lambda row: row.expires_at)],
        ),
        "service_notification_dispatches": (tables.dispatches, changed(tables.dispatches, "sent", "failed")),
        "service_activity_entries": (tables.activity, since(tables.activity, lambda row: row.created_at)),
        "service_subscriptions": (tables.subscriptions, since(replaced, lambda row: row.updated_at)),
        "service_installations": (tables.installations, since(uninstalled, lambda row: row.updated_at)),
        "service_rate_limit_state": (tables.budgets, since(tables.budgets, _over)),
        "service_event_positions": (tables.positions, since(tables.positions, lambda row: row[1])),
    }


def _over(window: Window) -> datetime:
    return max(window.reset_at, window.paused_until or window.reset_at)


def _deliveries(tables: Tables, event_id: str) -> list[Slot]:
    return [slot for slot in tables.outbox.values() if slot.event is not None and slot.event.id == event_id]


def _is_handled(tables: Tables, event_id: str) -> bool:
    """Whether no handler still has to do with the event, or there is none."""
    if event_id in tables.events and event_id not in tables.heard:
        return False
    return all(slot.status == "delivered" for slot in _deliveries(tables, event_id))


def _delivered(tables: Tables) -> list[tuple[str, datetime]]:
    found = []
    for event_id, at in tables.heard.items():
        slots = _deliveries(tables, event_id)
        if all(slot.status == "delivered" for slot in slots):
            found.append((event_id, max([at, *(slot.changed for slot in slots)])))
    return found


def _forget_deliveries(tables: Tables, event_id: str) -> None:
    del tables.heard[event_id]
    for slot in _deliveries(tables, event_id):
        del tables.outbox[slot.id]


def _destroy(tables: Tables, cutoff: datetime, *, dry_run: bool) -> int:
    destroyed = 0
    for connection_id, versions in tables.credentials.items():
        for place, old in enumerate(versions):
            if old is None or tables.active.get(connection_id) == old.version:
                continue
            if tables.superseded[old.id] < cutoff and not kept(tables, old.id):
                destroyed += 1
                if not dry_run:
                    versions[place] = None
    return destroyed


def _forget_all_but_newest(rows: Mapping[str, list[T]], time: str, cutoff: datetime, *, dry_run: bool) -> int:
    forgotten = 0
    for history in rows.values():
        old = [one for one in history[:-1] if getattr(one, time) < cutoff]
        forgotten += len(old)
        if not dry_run:
            history[:] = [one for one in history if one not in old]
    return forgotten
