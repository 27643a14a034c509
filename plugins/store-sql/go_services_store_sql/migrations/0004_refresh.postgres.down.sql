DROP INDEX "ix_service_connections_account";

DROP INDEX "ix_service_refresh_intents_unsettled";

DELETE FROM "service_refresh_intents" WHERE payload IS NOT NULL;

ALTER TABLE "service_refresh_intents" DROP COLUMN "details";

ALTER TABLE "service_refresh_intents" DROP COLUMN "encryption_version";

ALTER TABLE "service_refresh_intents" DROP COLUMN "encryption_key_id";

ALTER TABLE "service_refresh_intents" DROP COLUMN "encryption_backend";

ALTER TABLE "service_refresh_intents" DROP COLUMN "payload";

ALTER TABLE "service_refresh_intents" DROP COLUMN "retry_at";
