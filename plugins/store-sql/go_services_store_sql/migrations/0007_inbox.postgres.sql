ALTER TABLE "service_webhook_deliveries" ADD COLUMN "channel" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_webhook_deliveries" ADD COLUMN "resource" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_webhook_deliveries" ADD COLUMN "variant" TEXT NOT NULL DEFAULT '';

ALTER TABLE "service_webhook_deliveries" ADD COLUMN "burst_key" TEXT;

ALTER TABLE "service_webhook_deliveries" ADD COLUMN "burst_until" TIMESTAMPTZ;

UPDATE "service_webhook_deliveries" SET "variant" = encode("digest", 'hex') WHERE "status" = 'quarantined';

DROP INDEX "uq_service_webhook_deliveries_delivery";

DROP INDEX "uq_service_webhook_deliveries_quarantined";

CREATE UNIQUE INDEX "uq_service_webhook_deliveries_delivery" ON "service_webhook_deliveries" ("provider_id", coalesce(connection_id, ''), "delivery_id", "variant");

CREATE INDEX "ix_service_webhook_deliveries_burst" ON "service_webhook_deliveries" ("provider_id", "burst_key", "id") WHERE burst_key IS NOT NULL AND status <> 'superseded';
