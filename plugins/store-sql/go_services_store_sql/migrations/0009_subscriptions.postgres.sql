ALTER TABLE "service_subscriptions" ADD COLUMN "events" JSONB NOT NULL DEFAULT '[]';

ALTER TABLE "service_subscriptions" ADD COLUMN "remote_resource_id" TEXT;

ALTER TABLE "service_subscriptions" ADD COLUMN "confirmed_at" TIMESTAMPTZ;

ALTER TABLE "service_subscriptions" ADD COLUMN "renew_at" TIMESTAMPTZ;

ALTER TABLE "service_subscriptions" ADD COLUMN "attempts" INTEGER NOT NULL DEFAULT 0;

ALTER TABLE "service_subscriptions" ADD COLUMN "replaces" TEXT;

ALTER TABLE "service_subscriptions" ADD COLUMN "replaced_by" TEXT;

CREATE INDEX "ix_service_subscriptions_renewal" ON "service_subscriptions" ("provider_id", "renew_at", "id") WHERE status <> 'cancelled' AND deleted_at IS NULL;
