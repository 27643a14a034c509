"""The tables of the Go system (go-services 0.7.2, all six migrations), by column."""

from __future__ import annotations

from typing import Final

_SCOPE = "provider_id scope_type scope_id"

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    table: tuple(names.split())
    for table, names in {
        "service_connections": f"id {_SCOPE} external_account_id status inherits_from_connection_id last_error "
        "created_at updated_at deleted_at",
        "service_credentials": "id connection_id version encrypted_payload payload_format payload_version token_type "
        "requested_scopes granted_scopes expires_at rotates_at refreshable status grant_version encryption_key_id "
        "encryption_version revocation_reason created_at updated_at",
        "service_grant_snapshots": f"id connection_id {_SCOPE} version requested_grants granted_grants metadata "
        "captured_at created_at updated_at",
        "service_grant_events": f"id connection_id {_SCOPE} event_type requested_grants granted_grants added_grants "
        "removed_grants metadata created_at",
        "service_lifecycle_outbox": f"id event_id event_name {_SCOPE} connection_id payload metadata status attempts "
        "next_attempt_at last_error occurred_at created_at updated_at",
        "service_webhook_deliveries": "id provider_id delivery_id status attempts next_attempt_at payload created_at "
        "updated_at",
        "service_subscriptions": "id connection_id provider_id resource_type resource_id channel_id "
        "remote_subscription_id callback_url verification_token_ref status expires_at metadata last_notified_at "
        "created_at updated_at deleted_at",
        "service_sync_cursors": "id connection_id provider_id resource_type resource_id cursor status last_synced_at "
        "metadata created_at updated_at",
        "service_installations": f"id {_SCOPE} install_type status granted_at revoked_at metadata created_at "
        "updated_at",
        "service_rate_limit_state": f"id {_SCOPE} bucket_key limit remaining reset_at retry_after metadata created_at "
        "updated_at",
        "service_sync_jobs": "id connection_id provider_id mode checkpoint status attempts next_attempt_at metadata "
        "created_at updated_at",
        "service_sync_job_idempotency": f"id {_SCOPE} connection_id mode idempotency_key sync_job_id requested_by "
        "created_at updated_at",
        "service_notification_dispatches": "id event_id projector definition_code recipient_key idempotency_key "
        "status error metadata created_at",
        "service_activity_entries": f"id {_SCOPE} connection_id installation_id subscription_id sync_job_id channel "
        "action object_type object_id actor actor_type status metadata created_at",
        "service_mapping_specs": f"id spec_id {_SCOPE} name description source_object target_model schema_ref version "
        "status rules metadata published_at created_at updated_at",
        "service_sync_bindings": f"id {_SCOPE} connection_id mapping_spec_id source_object target_model direction "
        "status metadata created_at updated_at",
        "service_sync_checkpoints": f"id {_SCOPE} connection_id sync_binding_id direction cursor sequence_num "
        "source_version idempotency_seed metadata last_event_at created_at updated_at",
        "service_identity_bindings": f"id {_SCOPE} connection_id sync_binding_id source_object external_id "
        "internal_type internal_id match_kind confidence metadata created_at updated_at",
        "service_sync_conflicts": f"id {_SCOPE} connection_id sync_binding_id checkpoint_id source_object external_id "
        "source_version idempotency_key policy reason status source_payload target_payload resolution resolved_by "
        "resolved_at metadata created_at updated_at",
        "service_sync_change_log": f"id {_SCOPE} connection_id sync_binding_id direction source_object external_id "
        "source_version idempotency_key payload metadata occurred_at created_at",
        "service_events": f"id connection_id {_SCOPE} event_type status error metadata created_at",
    }.items()
}
"""Parents before children, so that rows can be copied in this order. ``service_events`` is read only."""
EVENTS: Final = "service_events"
