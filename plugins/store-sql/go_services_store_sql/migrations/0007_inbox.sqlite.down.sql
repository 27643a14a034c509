DROP INDEX "ix_service_webhook_deliveries_burst";

DROP INDEX "uq_service_webhook_deliveries_delivery";

UPDATE "service_webhook_deliveries" SET "status" = 'processed' WHERE "status" IN ('superseded', 'dropped');

UPDATE "service_webhook_deliveries" SET "status" = 'quarantined' WHERE "variant" <> '';

ALTER TABLE "service_webhook_deliveries" DROP COLUMN "burst_until";

ALTER TABLE "service_webhook_deliveries" DROP COLUMN "burst_key";

ALTER TABLE "service_webhook_deliveries" DROP COLUMN "variant";

ALTER TABLE "service_webhook_deliveries" DROP COLUMN "resource";

ALTER TABLE "service_webhook_deliveries" DROP COLUMN "channel";

CREATE UNIQUE INDEX "uq_service_webhook_deliveries_delivery" ON "service_webhook_deliveries" ("provider_id", coalesce(connection_id, ''), "delivery_id") WHERE status <> 'quarantined';

CREATE UNIQUE INDEX "uq_service_webhook_deliveries_quarantined" ON "service_webhook_deliveries" ("provider_id", coalesce(connection_id, ''), "delivery_id", "digest") WHERE status = 'quarantined';
