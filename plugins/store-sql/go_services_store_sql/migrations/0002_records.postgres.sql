CREATE TABLE "service_subscriptions" ("id" TEXT NOT NULL PRIMARY KEY, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "provider_id" TEXT NOT NULL, "resource_type" TEXT NOT NULL, "resource_id" TEXT NOT NULL, "channel_id" TEXT NOT NULL, "remote_subscription_id" TEXT, "callback_url" TEXT NOT NULL, "verification_token_ref" TEXT NOT NULL DEFAULT '', "status" TEXT NOT NULL, "status_reason" TEXT NOT NULL DEFAULT '', "version" INTEGER NOT NULL DEFAULT 1, "expires_at" TIMESTAMPTZ, "metadata" JSONB NOT NULL DEFAULT '{}', "last_notified_at" TIMESTAMPTZ, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL, "deleted_at" TIMESTAMPTZ);

CREATE UNIQUE INDEX "uq_service_subscriptions_active_channel" ON "service_subscriptions" ("provider_id", "channel_id") WHERE deleted_at IS NULL;

CREATE INDEX "ix_service_subscriptions_connection" ON "service_subscriptions" ("connection_id");

CREATE INDEX "ix_service_subscriptions_expiry" ON "service_subscriptions" ("status", "expires_at");

CREATE TABLE "service_sync_cursors" ("id" TEXT NOT NULL PRIMARY KEY, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "provider_id" TEXT NOT NULL, "resource_type" TEXT NOT NULL, "resource_id" TEXT NOT NULL, "cursor" TEXT NOT NULL, "status" TEXT NOT NULL, "last_synced_at" TIMESTAMPTZ, "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_sync_cursors_resource" ON "service_sync_cursors" ("connection_id", "provider_id", "resource_type", "resource_id");

CREATE TABLE "service_installations" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "install_type" TEXT NOT NULL, "status" TEXT NOT NULL, "status_reason" TEXT NOT NULL DEFAULT '', "version" INTEGER NOT NULL DEFAULT 1, "granted_at" TIMESTAMPTZ, "revoked_at" TIMESTAMPTZ, "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_installations_active" ON "service_installations" ("provider_id", "scope_type", "scope_id", "install_type") WHERE status <> 'uninstalled';

CREATE INDEX "ix_service_installations_scope" ON "service_installations" ("scope_type", "scope_id");

CREATE TABLE "service_rate_limit_state" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "bucket_key" TEXT NOT NULL, "limit" DOUBLE PRECISION NOT NULL, "remaining" DOUBLE PRECISION NOT NULL, "window_seconds" DOUBLE PRECISION NOT NULL DEFAULT 0, "reset_at" TIMESTAMPTZ, "retry_after" INTEGER, "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_rate_limit_state_natural_key" ON "service_rate_limit_state" ("provider_id", "scope_type", "scope_id", "bucket_key");

CREATE TABLE "service_sync_jobs" ("id" TEXT NOT NULL PRIMARY KEY, "kind" TEXT NOT NULL DEFAULT '', "provider_id" TEXT NOT NULL, "scope_type" TEXT, "scope_id" TEXT, "connection_id" TEXT REFERENCES service_connections (id) ON DELETE CASCADE, "mode" TEXT NOT NULL, "requested_by" TEXT NOT NULL DEFAULT '', "order_key" TEXT, "payload" JSONB NOT NULL DEFAULT '{}', "checkpoint" TEXT, "status" TEXT NOT NULL, "attempts" INTEGER NOT NULL DEFAULT 0, "owner" TEXT, "fence" INTEGER NOT NULL DEFAULT 0, "next_attempt_at" TIMESTAMPTZ, "last_error" TEXT NOT NULL DEFAULT '', "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE INDEX "ix_service_sync_jobs_due" ON "service_sync_jobs" ("next_attempt_at", "id", "kind") WHERE status IN ('queued', 'running');

CREATE INDEX "ix_service_sync_jobs_order" ON "service_sync_jobs" ("kind", "order_key", "id") WHERE status IN ('queued', 'running') AND order_key IS NOT NULL;

CREATE INDEX "ix_service_sync_jobs_connection" ON "service_sync_jobs" ("connection_id");

CREATE TABLE "service_sync_job_idempotency" ("id" TEXT NOT NULL PRIMARY KEY, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "provider_id" TEXT NOT NULL, "connection_id" TEXT REFERENCES service_connections (id) ON DELETE CASCADE, "mode" TEXT NOT NULL, "idempotency_key" TEXT NOT NULL CHECK (length(trim(idempotency_key)) > 0), "sync_job_id" TEXT NOT NULL REFERENCES service_sync_jobs (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, "requested_by" TEXT NOT NULL DEFAULT '', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_sync_job_idempotency_tuple" ON "service_sync_job_idempotency" ("scope_type", "scope_id", "provider_id", "mode", "idempotency_key");

CREATE INDEX "ix_service_sync_job_idempotency_job" ON "service_sync_job_idempotency" ("sync_job_id");

CREATE INDEX "ix_service_sync_job_idempotency_connection" ON "service_sync_job_idempotency" ("connection_id");

CREATE TABLE "service_idempotency" ("key" TEXT NOT NULL PRIMARY KEY, "kind" TEXT NOT NULL, "digest" BYTEA NOT NULL, "status" TEXT NOT NULL, "owner" TEXT, "fence" INTEGER NOT NULL, "expires_at" TIMESTAMPTZ, "result" BYTEA, "encryption_backend" TEXT NOT NULL DEFAULT '', "encryption_key_id" TEXT NOT NULL DEFAULT '', "encryption_version" INTEGER NOT NULL DEFAULT 1, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE TABLE "service_notification_dispatches" ("id" TEXT NOT NULL PRIMARY KEY, "event_id" TEXT NOT NULL, "projector" TEXT NOT NULL, "definition_code" TEXT NOT NULL, "recipient_key" TEXT NOT NULL, "idempotency_key" TEXT NOT NULL, "status" TEXT NOT NULL, "attempts" INTEGER NOT NULL DEFAULT 0, "owner" TEXT, "expires_at" TIMESTAMPTZ, "error" TEXT NOT NULL DEFAULT '', "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE INDEX "service_notification_dispatches_event_id" ON "service_notification_dispatches" ("event_id");

CREATE UNIQUE INDEX "service_notification_dispatches_idempotency_key" ON "service_notification_dispatches" ("idempotency_key");

CREATE TABLE "service_activity_entries" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT REFERENCES service_connections (id) ON DELETE SET NULL, "installation_id" TEXT, "subscription_id" TEXT, "sync_job_id" TEXT, "channel" TEXT NOT NULL, "action" TEXT NOT NULL, "object_type" TEXT NOT NULL, "object_id" TEXT NOT NULL, "actor" TEXT NOT NULL, "actor_type" TEXT NOT NULL, "status" TEXT NOT NULL, "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL);

CREATE INDEX "ix_service_activity_entries_time" ON "service_activity_entries" ("created_at", "id");

CREATE INDEX "ix_service_activity_entries_scope" ON "service_activity_entries" ("scope_type", "scope_id", "created_at", "id");

CREATE INDEX "ix_service_activity_entries_connection" ON "service_activity_entries" ("connection_id", "created_at", "id");

CREATE TABLE "service_mapping_specs" ("id" TEXT NOT NULL PRIMARY KEY, "spec_id" TEXT NOT NULL, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "name" TEXT NOT NULL, "description" TEXT NOT NULL DEFAULT '', "source_object" TEXT NOT NULL, "target_model" TEXT NOT NULL, "schema_ref" TEXT NOT NULL DEFAULT '', "version" INTEGER NOT NULL CHECK (version > 0), "status" TEXT NOT NULL, "rules" JSONB NOT NULL DEFAULT '[]', "metadata" JSONB NOT NULL DEFAULT '{}', "published_at" TIMESTAMPTZ, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_mapping_specs_version" ON "service_mapping_specs" ("provider_id", "scope_type", "scope_id", "spec_id", "version");

CREATE UNIQUE INDEX "uq_service_mapping_specs_published_spec" ON "service_mapping_specs" ("provider_id", "scope_type", "scope_id", "spec_id") WHERE status = 'published';

CREATE INDEX "ix_service_mapping_specs_status" ON "service_mapping_specs" ("status");

CREATE TABLE "service_sync_bindings" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "mapping_spec_id" TEXT NOT NULL REFERENCES service_mapping_specs (id) ON DELETE CASCADE, "source_object" TEXT NOT NULL, "target_model" TEXT NOT NULL, "direction" TEXT NOT NULL, "status" TEXT NOT NULL, "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_sync_bindings_direction" ON "service_sync_bindings" ("connection_id", "mapping_spec_id", "direction");

CREATE INDEX "ix_service_sync_bindings_mapping_spec" ON "service_sync_bindings" ("mapping_spec_id");

CREATE INDEX "ix_service_sync_bindings_scope" ON "service_sync_bindings" ("provider_id", "scope_type", "scope_id");

CREATE INDEX "ix_service_sync_bindings_status" ON "service_sync_bindings" ("status");

CREATE TABLE "service_sync_checkpoints" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "sync_binding_id" TEXT NOT NULL REFERENCES service_sync_bindings (id) ON DELETE CASCADE, "direction" TEXT NOT NULL, "cursor" TEXT NOT NULL DEFAULT '', "sequence_num" BIGINT NOT NULL DEFAULT 0 CHECK (sequence_num >= 0), "source_version" TEXT NOT NULL DEFAULT '', "idempotency_seed" TEXT NOT NULL DEFAULT '', "metadata" JSONB NOT NULL DEFAULT '{}', "last_event_at" TIMESTAMPTZ, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_sync_checkpoints_sequence" ON "service_sync_checkpoints" ("sync_binding_id", "direction", "sequence_num");

CREATE INDEX "ix_service_sync_checkpoints_latest" ON "service_sync_checkpoints" ("sync_binding_id", "direction", "updated_at" DESC);

CREATE INDEX "ix_service_sync_checkpoints_connection" ON "service_sync_checkpoints" ("connection_id");

CREATE TABLE "service_identity_bindings" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "sync_binding_id" TEXT NOT NULL REFERENCES service_sync_bindings (id) ON DELETE CASCADE, "source_object" TEXT NOT NULL, "external_id" TEXT NOT NULL, "internal_type" TEXT NOT NULL, "internal_id" TEXT NOT NULL, "match_kind" TEXT NOT NULL, "confidence" DOUBLE PRECISION NOT NULL DEFAULT 0 CHECK (confidence >= 0 AND confidence <= 1), "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_identity_bindings_external" ON "service_identity_bindings" ("sync_binding_id", "external_id");

CREATE INDEX "ix_service_identity_bindings_internal" ON "service_identity_bindings" ("sync_binding_id", "internal_type", "internal_id");

CREATE INDEX "ix_service_identity_bindings_connection" ON "service_identity_bindings" ("connection_id");

CREATE TABLE "service_sync_conflicts" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "sync_binding_id" TEXT NOT NULL REFERENCES service_sync_bindings (id) ON DELETE CASCADE, "checkpoint_id" TEXT REFERENCES service_sync_checkpoints (id) ON DELETE SET NULL, "source_object" TEXT NOT NULL, "external_id" TEXT NOT NULL, "source_version" TEXT NOT NULL DEFAULT '', "idempotency_key" TEXT NOT NULL DEFAULT '', "policy" TEXT NOT NULL DEFAULT '', "reason" TEXT NOT NULL, "status" TEXT NOT NULL, "source_payload" JSONB NOT NULL DEFAULT '{}', "target_payload" JSONB NOT NULL DEFAULT '{}', "resolution" JSONB NOT NULL DEFAULT '{}', "resolved_by" TEXT NOT NULL DEFAULT '', "resolved_at" TIMESTAMPTZ, "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_sync_conflicts_idempotency" ON "service_sync_conflicts" ("sync_binding_id", "idempotency_key") WHERE idempotency_key <> '';

CREATE INDEX "ix_service_sync_conflicts_binding" ON "service_sync_conflicts" ("sync_binding_id", "status", "created_at" DESC);

CREATE INDEX "ix_service_sync_conflicts_connection" ON "service_sync_conflicts" ("connection_id");

CREATE INDEX "ix_service_sync_conflicts_checkpoint" ON "service_sync_conflicts" ("checkpoint_id");

CREATE TABLE "service_sync_change_log" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "sync_binding_id" TEXT NOT NULL REFERENCES service_sync_bindings (id) ON DELETE CASCADE, "direction" TEXT NOT NULL, "source_object" TEXT NOT NULL, "external_id" TEXT NOT NULL, "source_version" TEXT NOT NULL DEFAULT '', "idempotency_key" TEXT NOT NULL DEFAULT '', "payload" JSONB NOT NULL DEFAULT '{}', "metadata" JSONB NOT NULL DEFAULT '{}', "occurred_at" TIMESTAMPTZ NOT NULL, "created_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_sync_change_log_idempotency" ON "service_sync_change_log" ("sync_binding_id", "idempotency_key") WHERE idempotency_key <> '';

CREATE INDEX "ix_service_sync_change_log_binding" ON "service_sync_change_log" ("sync_binding_id", "direction", "occurred_at" DESC);

CREATE INDEX "ix_service_sync_change_log_connection" ON "service_sync_change_log" ("connection_id");

ALTER TABLE "service_lifecycle_outbox" ADD COLUMN "order_key" TEXT;

CREATE INDEX "ix_service_lifecycle_outbox_order" ON "service_lifecycle_outbox" ("order_key", "event_id") WHERE status = 'pending' AND order_key IS NOT NULL;

ALTER TABLE "service_webhook_deliveries" ADD COLUMN "order_key" TEXT;

CREATE INDEX "ix_service_webhook_deliveries_order" ON "service_webhook_deliveries" ("provider_id", "order_key", "id") WHERE status IN ('pending', 'retry_ready', 'processing') AND order_key IS NOT NULL;

ALTER TABLE "service_event_deliveries" ADD COLUMN "order_key" TEXT;

CREATE INDEX "ix_service_event_deliveries_order" ON "service_event_deliveries" ("handler", "order_key", "event_id") WHERE status IN ('pending', 'retry_ready', 'processing') AND order_key IS NOT NULL;
