DROP INDEX "ix_service_rate_limit_state_waiting";

ALTER TABLE "service_rate_limit_state" DROP COLUMN "waiting_until";

ALTER TABLE "service_rate_limit_state" DROP COLUMN "paused_until";

ALTER TABLE "service_rate_limit_state" DROP COLUMN "period";

ALTER TABLE "service_rate_limit_state" DROP COLUMN "granted";
