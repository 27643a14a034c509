"""The tables, declared once. The Go system's tables keep its names and columns; what is ours follows them.

Times are TIMESTAMPTZ (in SQLite TEXT of fixed width), JSON is JSONB (TEXT), bytes are BYTEA (BLOB).
"""

from __future__ import annotations

from typing import Any

import peewee as pw
from peewee import SQL, Check


class Time(pw.Field):
    """An aware UTC time."""

    field_type = "TIMESTAMPTZ"


class JsonColumn(pw.Field):
    """A JSON array, object or null."""

    field_type = "JSONB"


class Bytes(pw.Field):
    """Raw bytes."""

    field_type = "BYTEA"


class Table(pw.Model):
    """Base of all models; bound to no database."""

    class Meta:
        legacy_table_names = False


def _text(default: str | None = None, **options: Any) -> pw.TextField[Any]:
    return pw.TextField(constraints=[] if default is None else [SQL(f"DEFAULT '{default}'")], **options)


def _json(default: str) -> JsonColumn:
    return JsonColumn(constraints=[SQL(f"DEFAULT '{default}'")])


def _count() -> pw.IntegerField[Any]:
    return pw.IntegerField(constraints=[SQL("DEFAULT 0")])


def _connection(on_delete: str = "CASCADE", **options: Any) -> pw.TextField[Any]:
    reference = SQL(f"REFERENCES service_connections (id) ON DELETE {on_delete}")
    return pw.TextField(constraints=[reference], **options)


class ConnectionRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = _text()
    scope_type = _text()
    scope_id = _text()
    external_account_id = _text()
    status = _text()
    auth_kind = _text()
    refresh_state = _text("ok")
    secret_state = _text("ok")
    inherits_from_connection_id = _connection("SET NULL", null=True)
    last_error = _text("")
    created_at = Time()
    updated_at = Time()
    deleted_at = Time(null=True)

    class Meta:
        table_name = "service_connections"


ConnectionRow.add_index(
    ConnectionRow.provider_id,
    ConnectionRow.scope_type,
    ConnectionRow.scope_id,
    ConnectionRow.external_account_id,
    unique=True,
    where=SQL("deleted_at IS NULL"),
    name="uq_service_connections_active_scope",
)
ConnectionRow.add_index(ConnectionRow.scope_type, ConnectionRow.scope_id, name="ix_service_connections_scope")


class CredentialRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = _connection()
    version = pw.IntegerField(constraints=[Check("version > 0")])
    encrypted_payload = Bytes()
    payload_format = _text("legacy_token")
    payload_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    token_type = _text()
    requested_scopes = _json("[]")
    granted_scopes = _json("[]")
    """JSON null where the provider does not tell grants."""
    expires_at = Time(null=True)
    refresh_expires_at = Time(null=True)
    rotates_at = Time(null=True)
    refreshable = pw.BooleanField()
    status = _text()
    """active, revoked."""
    grant_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    encryption_backend = _text("")
    encryption_key_id = _text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    """The version of the wrapping key."""
    revocation_reason = _text("")
    destroyed_at = Time(null=True)
    """When the ciphertext was overwritten; the payload is empty from then on."""
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_credentials"
        constraints = (Check("length(encrypted_payload) > 0 OR destroyed_at IS NOT NULL"),)


CredentialRow.add_index(
    CredentialRow.connection_id, CredentialRow.version, unique=True, name="uq_service_credentials_version"
)
CredentialRow.add_index(
    CredentialRow.connection_id, unique=True, where=SQL("status = 'active'"), name="uq_service_credentials_active"
)


class GrantSnapshotRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = _connection()
    provider_id = _text()
    scope_type = _text()
    scope_id = _text()
    version = pw.IntegerField(constraints=[Check("version > 0")])
    requested_grants = _json("[]")
    granted_grants = _json("[]")
    metadata = _json("{}")
    captured_at = Time()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_grant_snapshots"


GrantSnapshotRow.add_index(
    GrantSnapshotRow.connection_id, GrantSnapshotRow.version, unique=True, name="uq_service_grant_snapshots_version"
)


class GrantEventRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = _connection()
    provider_id = _text()
    scope_type = _text()
    scope_id = _text()
    event_type = _text()
    requested_grants = _json("[]")
    granted_grants = _json("[]")
    added_grants = _json("[]")
    removed_grants = _json("[]")
    metadata = _json("{}")
    created_at = Time()

    class Meta:
        table_name = "service_grant_events"


GrantEventRow.add_index(GrantEventRow.connection_id, name="ix_service_grant_events_connection")


class OutboxRow(Table):
    id = pw.TextField(primary_key=True)
    event_id = _text(unique=True)
    event_name = _text()
    source = _text("runtime")
    provider_id = _text()
    scope_type = _text()
    scope_id = _text()
    connection_id = _connection("SET NULL", null=True)
    payload = _json("{}")
    metadata = _json("{}")
    status = _text()
    """pending: no handler knows it yet; processing: in service_event_deliveries; delivered."""
    attempts = _count()
    next_attempt_at = Time(null=True)
    last_error = _text("")
    occurred_at = Time()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_lifecycle_outbox"


OutboxRow.add_index(OutboxRow.event_id, where=SQL("status = 'pending'"), name="ix_service_lifecycle_outbox_pending")
OutboxRow.add_index(OutboxRow.connection_id, name="ix_service_lifecycle_outbox_connection")


class InboxRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = _text()
    connection_id = _text(null=True)
    scope_type = _text(null=True)
    scope_id = _text(null=True)
    delivery_id = _text()
    event = _text()
    digest = Bytes()
    payload = Bytes(null=True)
    """The sealed request."""
    encryption_backend = _text("")
    encryption_key_id = _text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    status = _text()
    """pending, processing, retry_ready, processed, dead, quarantined."""
    attempts = _count()
    owner = _text(null=True)
    fence = _count()
    next_attempt_at = Time(null=True)
    """When it is due: at once, after a retry's delay, or, while processing, when the lease ends."""
    last_error = _text("")
    received_at = Time()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_webhook_deliveries"


InboxRow.add_index(
    InboxRow.provider_id,
    SQL("coalesce(connection_id, '')"),
    InboxRow.delivery_id,
    unique=True,
    where=SQL("status <> 'quarantined'"),
    name="uq_service_webhook_deliveries_delivery",
)
InboxRow.add_index(
    InboxRow.provider_id,
    SQL("coalesce(connection_id, '')"),
    InboxRow.delivery_id,
    InboxRow.digest,
    unique=True,
    where=SQL("status = 'quarantined'"),
    name="uq_service_webhook_deliveries_quarantined",
)
InboxRow.add_index(
    InboxRow.next_attempt_at,
    InboxRow.id,
    where=SQL("status IN ('pending', 'retry_ready', 'processing')"),
    name="ix_service_webhook_deliveries_due",
)


class AttemptRow(Table):
    id = pw.TextField(primary_key=True)
    state_hash = Bytes(unique=True)
    binding_hash = Bytes()
    provider_id = _text()
    auth_kind = _text()
    scope_type = _text()
    scope_id = _text()
    redirect_uri = _text()
    requested = _json("[]")
    connection_id = _text(null=True)
    return_to = _text(null=True)
    payload = Bytes()
    encryption_backend = _text()
    encryption_key_id = _text()
    encryption_version = pw.IntegerField()
    mismatches = _count()
    """Callbacks from a wrong browser; the fifth ends the attempt."""
    consumed_at = Time(null=True)
    created_at = Time()
    expires_at = Time(index=True)

    class Meta:
        table_name = "service_oauth_attempts"


class RefreshIntentRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = _connection()
    version = pw.IntegerField()
    """The credential version that the refresh starts from."""
    resource = _text()
    fence = pw.IntegerField()
    outcome = _text("")
    """Empty while the refresh runs; then saved, failed, terminal or broken."""
    last_error = _text("")
    sent_at = Time()
    settled_at = Time(null=True)

    class Meta:
        table_name = "service_refresh_intents"


RefreshIntentRow.add_index(
    RefreshIntentRow.resource, RefreshIntentRow.fence, unique=True, name="uq_service_refresh_intents_fence"
)
RefreshIntentRow.add_index(RefreshIntentRow.connection_id, name="ix_service_refresh_intents_connection")


class LeaseRow(Table):
    resource = pw.TextField(primary_key=True)
    owner = _text(null=True)
    """NULL when nobody holds it; the fence stays, so that it never repeats."""
    fence = pw.IntegerField()
    expires_at = Time(null=True)

    class Meta:
        table_name = "service_leases"


class HandlerRow(Table):
    name = pw.TextField(primary_key=True)
    pattern = _text()
    created_at = Time()

    class Meta:
        table_name = "service_event_handlers"


class EventDeliveryRow(Table):
    event_id = pw.TextField(constraints=[SQL("REFERENCES service_lifecycle_outbox (event_id) ON DELETE CASCADE")])
    handler = _text()
    status = _text()
    """pending, processing, retry_ready, delivered, dead."""
    attempts = _count()
    owner = _text(null=True)
    fence = _count()
    next_attempt_at = Time(null=True)
    """As in service_webhook_deliveries."""
    last_error = _text("")
    updated_at = Time()

    class Meta:
        table_name = "service_event_deliveries"
        primary_key = pw.CompositeKey("event_id", "handler")


EventDeliveryRow.add_index(
    EventDeliveryRow.next_attempt_at,
    EventDeliveryRow.event_id,
    EventDeliveryRow.handler,
    where=SQL("status IN ('pending', 'retry_ready', 'processing')"),
    name="ix_service_event_deliveries_due",
)


class ReplayRow(Table):
    key = pw.TextField(primary_key=True)
    expires_at = Time(index=True)

    class Meta:
        table_name = "service_replay_ledger"


class MetaRow(Table):
    name = pw.TextField(primary_key=True)
    value = Bytes()
    created_at = Time()

    class Meta:
        table_name = "service_meta"


class MigrationRow(Table):
    number = pw.IntegerField(primary_key=True)
    name = _text()
    checksum = _text()
    applied_at = Time()

    class Meta:
        table_name = "service_migrations"


MODELS: tuple[type[Table], ...] = (
    ConnectionRow,
    CredentialRow,
    GrantSnapshotRow,
    GrantEventRow,
    OutboxRow,
    InboxRow,
    AttemptRow,
    RefreshIntentRow,
    LeaseRow,
    HandlerRow,
    EventDeliveryRow,
    ReplayRow,
    MetaRow,
    MigrationRow,
)
