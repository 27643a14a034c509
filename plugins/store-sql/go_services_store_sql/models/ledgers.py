"""What is kept once: leases, keys, entries of the log, small values."""

from __future__ import annotations

import peewee as pw
from peewee import SQL

from .columns import Bytes, Table, Time, connection, count, json, text


class LeaseRow(Table):
    resource = pw.TextField(primary_key=True)
    owner = text(null=True)
    """NULL when nobody holds it; the fence stays, so that it never repeats."""
    fence = pw.IntegerField()
    expires_at = Time(null=True)

    class Meta:
        table_name = "service_leases"


class ReplayRow(Table):
    key = pw.TextField(primary_key=True)
    expires_at = Time(index=True)

    class Meta:
        table_name = "service_replay_ledger"


class IdempotencyRow(Table):
    key = pw.TextField(primary_key=True)
    """``KIND:KEY``."""
    kind = text()
    """command, operation."""
    digest = Bytes()
    status = text()
    """running, done, failed; resumed is running after an attempt of which nobody told how it ended."""
    owner = text(null=True)
    fence = pw.IntegerField()
    expires_at = Time(null=True)
    """While running: when another may take it over."""
    result = Bytes(null=True)
    encryption_backend = text("")
    encryption_key_id = text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    created_at = Time()
    """When it was begun; after a failure, when it was begun again."""
    updated_at = Time()

    class Meta:
        table_name = "service_idempotency"


class DispatchRow(Table):
    id = pw.TextField(primary_key=True)
    event_id = text(index=True)
    projector = text()
    definition_code = text()
    recipient_key = text()
    idempotency_key = text(unique=True)
    status = text()
    """running, sent, failed."""
    attempts = count()
    """Also the fence."""
    owner = text(null=True)
    expires_at = Time(null=True)
    """As in service_idempotency."""
    error = text("")
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_notification_dispatches"


class ActivityRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection("SET NULL", null=True)
    installation_id = text(null=True)
    subscription_id = text(null=True)
    sync_job_id = text(null=True)
    channel = text()
    action = text()
    object_type = text()
    object_id = text()
    actor = text()
    actor_type = text()
    status = text()
    metadata = json()
    created_at = Time()

    class Meta:
        table_name = "service_activity_entries"


ActivityRow.add_index(ActivityRow.created_at, ActivityRow.id, name="ix_service_activity_entries_time")
ActivityRow.add_index(
    ActivityRow.scope_type,
    ActivityRow.scope_id,
    ActivityRow.created_at,
    ActivityRow.id,
    name="ix_service_activity_entries_scope",
)
ActivityRow.add_index(
    ActivityRow.connection_id,
    ActivityRow.created_at,
    ActivityRow.id,
    name="ix_service_activity_entries_connection",
)


class MetaRow(Table):
    name = pw.TextField(primary_key=True)
    value = Bytes()
    created_at = Time()

    class Meta:
        table_name = "service_meta"


class MigrationRow(Table):
    number = pw.IntegerField(primary_key=True)
    name = text()
    checksum = text()
    applied_at = Time()

    class Meta:
        table_name = "service_migrations"
