ALTER TABLE "service_refresh_intents" ADD COLUMN "retry_at" TEXT;

ALTER TABLE "service_refresh_intents" ADD COLUMN "payload" BLOB;

ALTER TABLE "service_refresh_intents" ADD COLUMN "encryption_backend" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_refresh_intents" ADD COLUMN "encryption_key_id" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_refresh_intents" ADD COLUMN "encryption_version" INTEGER NOT NULL DEFAULT 1;

ALTER TABLE "service_refresh_intents" ADD COLUMN "details" TEXT NOT NULL DEFAULT '{}';

CREATE INDEX "ix_service_refresh_intents_unsettled" ON "service_refresh_intents" ("resource", "fence") WHERE settled_at IS NULL;

CREATE INDEX "ix_service_connections_account" ON "service_connections" ("provider_id", "external_account_id");
