DROP INDEX "ix_service_subscriptions_renewal";

ALTER TABLE "service_subscriptions" DROP COLUMN "replaced_by";

ALTER TABLE "service_subscriptions" DROP COLUMN "replaces";

ALTER TABLE "service_subscriptions" DROP COLUMN "attempts";

ALTER TABLE "service_subscriptions" DROP COLUMN "renew_at";

ALTER TABLE "service_subscriptions" DROP COLUMN "confirmed_at";

ALTER TABLE "service_subscriptions" DROP COLUMN "remote_resource_id";

ALTER TABLE "service_subscriptions" DROP COLUMN "events";
