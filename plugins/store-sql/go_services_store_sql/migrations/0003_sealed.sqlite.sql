ALTER TABLE "service_subscriptions" ADD COLUMN "verification_token" BLOB;

ALTER TABLE "service_subscriptions" ADD COLUMN "encryption_backend" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_subscriptions" ADD COLUMN "encryption_key_id" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_subscriptions" ADD COLUMN "encryption_version" INTEGER NOT NULL DEFAULT 1;

CREATE INDEX "ix_service_connections_unreadable" ON "service_connections" ("id") WHERE secret_state <> 'ok';
