"""Mappings and two-way syncs: tables that the Go system has; their methods come with their first caller."""

from __future__ import annotations

import peewee as pw
from peewee import SQL, Check

from .columns import Table, Time, connection, json, text


def _binding() -> pw.TextField[str]:
    return text(constraints=[SQL("REFERENCES service_sync_bindings (id) ON DELETE CASCADE")])


class MappingSpecRow(Table):
    id = pw.TextField(primary_key=True)
    spec_id = text()
    provider_id = text()
    scope_type = text()
    scope_id = text()
    name = text()
    description = text("")
    source_object = text()
    target_model = text()
    schema_ref = text("")
    version = pw.IntegerField(constraints=[Check("version > 0")])
    status = text()
    """draft, validated, published."""
    rules = json("[]")
    metadata = json()
    published_at = Time(null=True)
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_mapping_specs"


MappingSpecRow.add_index(
    MappingSpecRow.provider_id,
    MappingSpecRow.scope_type,
    MappingSpecRow.scope_id,
    MappingSpecRow.spec_id,
    MappingSpecRow.version,
    unique=True,
    name="uq_service_mapping_specs_version",
)
MappingSpecRow.add_index(
    MappingSpecRow.provider_id,
    MappingSpecRow.scope_type,
    MappingSpecRow.scope_id,
    MappingSpecRow.spec_id,
    unique=True,
    where=SQL("status = 'published'"),
    name="uq_service_mapping_specs_published_spec",
)
MappingSpecRow.add_index(MappingSpecRow.status, name="ix_service_mapping_specs_status")


class SyncBindingRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection()
    mapping_spec_id = text(constraints=[SQL("REFERENCES service_mapping_specs (id) ON DELETE CASCADE")])
    source_object = text()
    target_model = text()
    direction = text()
    status = text()
    """active, paused."""
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_sync_bindings"


SyncBindingRow.add_index(
    SyncBindingRow.connection_id,
    SyncBindingRow.mapping_spec_id,
    SyncBindingRow.direction,
    unique=True,
    name="uq_service_sync_bindings_direction",
)
SyncBindingRow.add_index(SyncBindingRow.mapping_spec_id, name="ix_service_sync_bindings_mapping_spec")
SyncBindingRow.add_index(
    SyncBindingRow.provider_id,
    SyncBindingRow.scope_type,
    SyncBindingRow.scope_id,
    name="ix_service_sync_bindings_scope",
)
SyncBindingRow.add_index(SyncBindingRow.status, name="ix_service_sync_bindings_status")


class SyncCheckpointRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection()
    sync_binding_id = _binding()
    direction = text()
    cursor = text("")
    sequence_num = pw.BigIntegerField(constraints=[SQL("DEFAULT 0"), Check("sequence_num >= 0")])
    source_version = text("")
    idempotency_seed = text("")
    metadata = json()
    last_event_at = Time(null=True)
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_sync_checkpoints"


SyncCheckpointRow.add_index(
    SyncCheckpointRow.sync_binding_id,
    SyncCheckpointRow.direction,
    SyncCheckpointRow.sequence_num,
    unique=True,
    name="uq_service_sync_checkpoints_sequence",
)
SyncCheckpointRow.add_index(
    SyncCheckpointRow.sync_binding_id,
    SyncCheckpointRow.direction,
    SyncCheckpointRow.updated_at.desc(),
    name="ix_service_sync_checkpoints_latest",
)
SyncCheckpointRow.add_index(SyncCheckpointRow.connection_id, name="ix_service_sync_checkpoints_connection")


class IdentityBindingRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection()
    sync_binding_id = _binding()
    source_object = text()
    external_id = text()
    internal_type = text()
    internal_id = text()
    match_kind = text()
    """exact, confident, ambiguous, unresolved."""
    confidence = pw.DoubleField(constraints=[SQL("DEFAULT 0"), Check("confidence >= 0 AND confidence <= 1")])
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_identity_bindings"


IdentityBindingRow.add_index(
    IdentityBindingRow.sync_binding_id,
    IdentityBindingRow.external_id,
    unique=True,
    name="uq_service_identity_bindings_external",
)
IdentityBindingRow.add_index(
    IdentityBindingRow.sync_binding_id,
    IdentityBindingRow.internal_type,
    IdentityBindingRow.internal_id,
    name="ix_service_identity_bindings_internal",
)
IdentityBindingRow.add_index(IdentityBindingRow.connection_id, name="ix_service_identity_bindings_connection")


class SyncConflictRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection()
    sync_binding_id = _binding()
    checkpoint_id = text(constraints=[SQL("REFERENCES service_sync_checkpoints (id) ON DELETE SET NULL")], null=True)
    source_object = text()
    external_id = text()
    source_version = text("")
    idempotency_key = text("")
    policy = text("")
    reason = text()
    status = text()
    """pending, resolved, ignored."""
    source_payload = json()
    target_payload = json()
    resolution = json()
    resolved_by = text("")
    resolved_at = Time(null=True)
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_sync_conflicts"


SyncConflictRow.add_index(
    SyncConflictRow.sync_binding_id,
    SyncConflictRow.idempotency_key,
    unique=True,
    where=SQL("idempotency_key <> ''"),
    name="uq_service_sync_conflicts_idempotency",
)
SyncConflictRow.add_index(
    SyncConflictRow.sync_binding_id,
    SyncConflictRow.status,
    SyncConflictRow.created_at.desc(),
    name="ix_service_sync_conflicts_binding",
)
SyncConflictRow.add_index(SyncConflictRow.connection_id, name="ix_service_sync_conflicts_connection")
SyncConflictRow.add_index(SyncConflictRow.checkpoint_id, name="ix_service_sync_conflicts_checkpoint")


class SyncChangeRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    connection_id = connection()
    sync_binding_id = _binding()
    direction = text()
    source_object = text()
    external_id = text()
    source_version = text("")
    idempotency_key = text("")
    payload = json()
    metadata = json()
    occurred_at = Time()
    created_at = Time()

    class Meta:
        table_name = "service_sync_change_log"


SyncChangeRow.add_index(
    SyncChangeRow.sync_binding_id,
    SyncChangeRow.idempotency_key,
    unique=True,
    where=SQL("idempotency_key <> ''"),
    name="uq_service_sync_change_log_idempotency",
)
SyncChangeRow.add_index(
    SyncChangeRow.sync_binding_id,
    SyncChangeRow.direction,
    SyncChangeRow.occurred_at.desc(),
    name="ix_service_sync_change_log_binding",
)
SyncChangeRow.add_index(SyncChangeRow.connection_id, name="ix_service_sync_change_log_connection")
