"""Connections with their credentials, grants, attempts and refreshes."""

from __future__ import annotations

import peewee as pw
from peewee import SQL, Check

from .columns import Bytes, Table, Time, connection, count, json, text


class ConnectionRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    external_account_id = text()
    status = text()
    auth_kind = text()
    refresh_state = text("ok")
    secret_state = text("ok")
    inherits_from_connection_id = connection("SET NULL", null=True)
    last_error = text("")
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
ConnectionRow.add_index(
    ConnectionRow.provider_id, ConnectionRow.external_account_id, name="ix_service_connections_account"
)
ConnectionRow.add_index(ConnectionRow.id, where=SQL("secret_state <> 'ok'"), name="ix_service_connections_unreadable")


class CredentialRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = connection()
    version = pw.IntegerField(constraints=[Check("version > 0")])
    encrypted_payload = Bytes()
    payload_format = text("legacy_token")
    payload_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    token_type = text()
    requested_scopes = json("[]")
    granted_scopes = json("[]")
    """JSON null where the provider does not tell grants."""
    expires_at = Time(null=True)
    refresh_expires_at = Time(null=True)
    rotates_at = Time(null=True)
    refreshable = pw.BooleanField()
    status = text()
    """active, revoked."""
    grant_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    encryption_backend = text("")
    encryption_key_id = text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    """The version of the wrapping key."""
    revocation_reason = text("")
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
CredentialRow.add_index(
    CredentialRow.expires_at,
    CredentialRow.connection_id,
    where=SQL("status = 'active' AND refreshable"),
    name="ix_service_credentials_ending",
)
CredentialRow.add_index(
    CredentialRow.created_at,
    CredentialRow.connection_id,
    where=SQL("status = 'active' AND refreshable"),
    name="ix_service_credentials_unused",
)


class GrantSnapshotRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = connection()
    provider_id = text()
    scope_type = text()
    scope_id = text()
    version = pw.IntegerField(constraints=[Check("version > 0")])
    requested_grants = json("[]")
    granted_grants = json("[]")
    metadata = json("{}")
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
    connection_id = connection()
    provider_id = text()
    scope_type = text()
    scope_id = text()
    event_type = text()
    requested_grants = json("[]")
    granted_grants = json("[]")
    added_grants = json("[]")
    removed_grants = json("[]")
    metadata = json("{}")
    created_at = Time()

    class Meta:
        table_name = "service_grant_events"


GrantEventRow.add_index(GrantEventRow.connection_id, name="ix_service_grant_events_connection")


class AttemptRow(Table):
    id = pw.TextField(primary_key=True)
    state_hash = Bytes(unique=True)
    binding_hash = Bytes()
    provider_id = text()
    auth_kind = text()
    scope_type = text()
    scope_id = text()
    redirect_uri = text()
    requested = json("[]")
    connection_id = text(null=True)
    return_to = text(null=True)
    payload = Bytes()
    encryption_backend = text()
    encryption_key_id = text()
    encryption_version = pw.IntegerField()
    mismatches = count()
    """Callbacks from a wrong browser; the fifth ends the attempt."""
    consumed_at = Time(null=True)
    created_at = Time()
    expires_at = Time(index=True)

    class Meta:
        table_name = "service_oauth_attempts"


class RefreshIntentRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = connection()
    version = pw.IntegerField()
    """The credential version that the refresh starts from."""
    resource = text()
    fence = pw.IntegerField()
    outcome = text("")
    """Empty while the refresh runs; then saved, failed, unknown, terminal, dropped (nothing was sent), adopted or
    broken."""
    last_error = text("")
    sent_at = Time()
    settled_at = Time(null=True)
    retry_at = Time(null=True)
    """Of a failed one: when the next may be tried."""
    payload = Bytes(null=True)
    """The token that came after the lease, sealed as the credential that it becomes when it is adopted."""
    encryption_backend = text("")
    encryption_key_id = text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    details = json("{}")
    """What stands beside the payload in the row of a credential."""

    class Meta:
        table_name = "service_refresh_intents"


RefreshIntentRow.add_index(
    RefreshIntentRow.resource, RefreshIntentRow.fence, unique=True, name="uq_service_refresh_intents_fence"
)
RefreshIntentRow.add_index(RefreshIntentRow.connection_id, name="ix_service_refresh_intents_connection")
RefreshIntentRow.add_index(
    RefreshIntentRow.resource,
    RefreshIntentRow.fence,
    where=SQL("settled_at IS NULL"),
    name="ix_service_refresh_intents_unsettled",
)
