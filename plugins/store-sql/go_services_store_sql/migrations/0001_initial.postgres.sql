CREATE TABLE "service_connections" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "external_account_id" TEXT NOT NULL, "status" TEXT NOT NULL, "auth_kind" TEXT NOT NULL, "refresh_state" TEXT NOT NULL DEFAULT 'ok', "secret_state" TEXT NOT NULL DEFAULT 'ok', "inherits_from_connection_id" TEXT REFERENCES service_connections (id) ON DELETE SET NULL, "last_error" TEXT NOT NULL DEFAULT '', "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL, "deleted_at" TIMESTAMPTZ);

CREATE UNIQUE INDEX "uq_service_connections_active_scope" ON "service_connections" ("provider_id", "scope_type", "scope_id", "external_account_id") WHERE deleted_at IS NULL;

CREATE INDEX "ix_service_connections_scope" ON "service_connections" ("scope_type", "scope_id");

CREATE TABLE "service_credentials" ("id" TEXT NOT NULL PRIMARY KEY, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "version" INTEGER NOT NULL CHECK (version > 0), "encrypted_payload" BYTEA NOT NULL, "payload_format" TEXT NOT NULL DEFAULT 'legacy_token', "payload_version" INTEGER NOT NULL DEFAULT 1, "token_type" TEXT NOT NULL, "requested_scopes" JSONB NOT NULL DEFAULT '[]', "granted_scopes" JSONB NOT NULL DEFAULT '[]', "expires_at" TIMESTAMPTZ, "refresh_expires_at" TIMESTAMPTZ, "rotates_at" TIMESTAMPTZ, "refreshable" BOOLEAN NOT NULL, "status" TEXT NOT NULL, "grant_version" INTEGER NOT NULL DEFAULT 1, "encryption_backend" TEXT NOT NULL DEFAULT '', "encryption_key_id" TEXT NOT NULL DEFAULT '', "encryption_version" INTEGER NOT NULL DEFAULT 1, "revocation_reason" TEXT NOT NULL DEFAULT '', "destroyed_at" TIMESTAMPTZ, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL, CHECK (length(encrypted_payload) > 0 OR destroyed_at IS NOT NULL));

CREATE UNIQUE INDEX "uq_service_credentials_version" ON "service_credentials" ("connection_id", "version");

CREATE UNIQUE INDEX "uq_service_credentials_active" ON "service_credentials" ("connection_id") WHERE status = 'active';

CREATE TABLE "service_grant_snapshots" ("id" TEXT NOT NULL PRIMARY KEY, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "version" INTEGER NOT NULL CHECK (version > 0), "requested_grants" JSONB NOT NULL DEFAULT '[]', "granted_grants" JSONB NOT NULL DEFAULT '[]', "metadata" JSONB NOT NULL DEFAULT '{}', "captured_at" TIMESTAMPTZ NOT NULL, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_grant_snapshots_version" ON "service_grant_snapshots" ("connection_id", "version");

CREATE TABLE "service_grant_events" ("id" TEXT NOT NULL PRIMARY KEY, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "event_type" TEXT NOT NULL, "requested_grants" JSONB NOT NULL DEFAULT '[]', "granted_grants" JSONB NOT NULL DEFAULT '[]', "added_grants" JSONB NOT NULL DEFAULT '[]', "removed_grants" JSONB NOT NULL DEFAULT '[]', "metadata" JSONB NOT NULL DEFAULT '{}', "created_at" TIMESTAMPTZ NOT NULL);

CREATE INDEX "ix_service_grant_events_connection" ON "service_grant_events" ("connection_id");

CREATE TABLE "service_lifecycle_outbox" ("id" TEXT NOT NULL PRIMARY KEY, "event_id" TEXT NOT NULL, "event_name" TEXT NOT NULL, "source" TEXT NOT NULL DEFAULT 'runtime', "provider_id" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "connection_id" TEXT REFERENCES service_connections (id) ON DELETE SET NULL, "payload" JSONB NOT NULL DEFAULT '{}', "metadata" JSONB NOT NULL DEFAULT '{}', "status" TEXT NOT NULL, "attempts" INTEGER NOT NULL DEFAULT 0, "next_attempt_at" TIMESTAMPTZ, "last_error" TEXT NOT NULL DEFAULT '', "occurred_at" TIMESTAMPTZ NOT NULL, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "service_lifecycle_outbox_event_id" ON "service_lifecycle_outbox" ("event_id");

CREATE INDEX "ix_service_lifecycle_outbox_pending" ON "service_lifecycle_outbox" ("event_id") WHERE status = 'pending';

CREATE INDEX "ix_service_lifecycle_outbox_connection" ON "service_lifecycle_outbox" ("connection_id");

CREATE TABLE "service_webhook_deliveries" ("id" TEXT NOT NULL PRIMARY KEY, "provider_id" TEXT NOT NULL, "connection_id" TEXT, "scope_type" TEXT, "scope_id" TEXT, "delivery_id" TEXT NOT NULL, "event" TEXT NOT NULL, "digest" BYTEA NOT NULL, "payload" BYTEA, "encryption_backend" TEXT NOT NULL DEFAULT '', "encryption_key_id" TEXT NOT NULL DEFAULT '', "encryption_version" INTEGER NOT NULL DEFAULT 1, "status" TEXT NOT NULL, "attempts" INTEGER NOT NULL DEFAULT 0, "owner" TEXT, "fence" INTEGER NOT NULL DEFAULT 0, "next_attempt_at" TIMESTAMPTZ, "last_error" TEXT NOT NULL DEFAULT '', "received_at" TIMESTAMPTZ NOT NULL, "created_at" TIMESTAMPTZ NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "uq_service_webhook_deliveries_delivery" ON "service_webhook_deliveries" ("provider_id", coalesce(connection_id, ''), "delivery_id") WHERE status <> 'quarantined';

CREATE UNIQUE INDEX "uq_service_webhook_deliveries_quarantined" ON "service_webhook_deliveries" ("provider_id", coalesce(connection_id, ''), "delivery_id", "digest") WHERE status = 'quarantined';

CREATE INDEX "ix_service_webhook_deliveries_due" ON "service_webhook_deliveries" ("next_attempt_at", "id") WHERE status IN ('pending', 'retry_ready', 'processing');

CREATE TABLE "service_oauth_attempts" ("id" TEXT NOT NULL PRIMARY KEY, "state_hash" BYTEA NOT NULL, "binding_hash" BYTEA NOT NULL, "provider_id" TEXT NOT NULL, "auth_kind" TEXT NOT NULL, "scope_type" TEXT NOT NULL, "scope_id" TEXT NOT NULL, "redirect_uri" TEXT NOT NULL, "requested" JSONB NOT NULL DEFAULT '[]', "connection_id" TEXT, "return_to" TEXT, "payload" BYTEA NOT NULL, "encryption_backend" TEXT NOT NULL, "encryption_key_id" TEXT NOT NULL, "encryption_version" INTEGER NOT NULL, "mismatches" INTEGER NOT NULL DEFAULT 0, "consumed_at" TIMESTAMPTZ, "created_at" TIMESTAMPTZ NOT NULL, "expires_at" TIMESTAMPTZ NOT NULL);

CREATE UNIQUE INDEX "service_oauth_attempts_state_hash" ON "service_oauth_attempts" ("state_hash");

CREATE INDEX "service_oauth_attempts_expires_at" ON "service_oauth_attempts" ("expires_at");

CREATE TABLE "service_refresh_intents" ("id" TEXT NOT NULL PRIMARY KEY, "connection_id" TEXT NOT NULL REFERENCES service_connections (id) ON DELETE CASCADE, "version" INTEGER NOT NULL, "resource" TEXT NOT NULL, "fence" INTEGER NOT NULL, "outcome" TEXT NOT NULL DEFAULT '', "last_error" TEXT NOT NULL DEFAULT '', "sent_at" TIMESTAMPTZ NOT NULL, "settled_at" TIMESTAMPTZ);

CREATE UNIQUE INDEX "uq_service_refresh_intents_fence" ON "service_refresh_intents" ("resource", "fence");

CREATE INDEX "ix_service_refresh_intents_connection" ON "service_refresh_intents" ("connection_id");

CREATE TABLE "service_leases" ("resource" TEXT NOT NULL PRIMARY KEY, "owner" TEXT, "fence" INTEGER NOT NULL, "expires_at" TIMESTAMPTZ);

CREATE TABLE "service_event_handlers" ("name" TEXT NOT NULL PRIMARY KEY, "pattern" TEXT NOT NULL, "created_at" TIMESTAMPTZ NOT NULL);

CREATE TABLE "service_event_deliveries" ("event_id" TEXT NOT NULL REFERENCES service_lifecycle_outbox (event_id) ON DELETE CASCADE, "handler" TEXT NOT NULL, "status" TEXT NOT NULL, "attempts" INTEGER NOT NULL DEFAULT 0, "owner" TEXT, "fence" INTEGER NOT NULL DEFAULT 0, "next_attempt_at" TIMESTAMPTZ, "last_error" TEXT NOT NULL DEFAULT '', "updated_at" TIMESTAMPTZ NOT NULL, PRIMARY KEY ("event_id", "handler"));

CREATE INDEX "ix_service_event_deliveries_due" ON "service_event_deliveries" ("next_attempt_at", "event_id", "handler") WHERE status IN ('pending', 'retry_ready', 'processing');

CREATE TABLE "service_replay_ledger" ("key" TEXT NOT NULL PRIMARY KEY, "expires_at" TIMESTAMPTZ NOT NULL);

CREATE INDEX "service_replay_ledger_expires_at" ON "service_replay_ledger" ("expires_at");

CREATE TABLE "service_meta" ("name" TEXT NOT NULL PRIMARY KEY, "value" BYTEA NOT NULL, "created_at" TIMESTAMPTZ NOT NULL);

CREATE TABLE "service_migrations" ("number" INTEGER NOT NULL PRIMARY KEY, "name" TEXT NOT NULL, "checksum" TEXT NOT NULL, "applied_at" TIMESTAMPTZ NOT NULL);
