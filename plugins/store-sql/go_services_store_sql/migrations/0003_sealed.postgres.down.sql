DROP INDEX "ix_service_connections_unreadable";

DELETE FROM "service_subscriptions" WHERE verification_token IS NOT NULL;

ALTER TABLE "service_subscriptions" DROP COLUMN "encryption_version";

ALTER TABLE "service_subscriptions" DROP COLUMN "encryption_key_id";

ALTER TABLE "service_subscriptions" DROP COLUMN "encryption_backend";

ALTER TABLE "service_subscriptions" DROP COLUMN "verification_token";
