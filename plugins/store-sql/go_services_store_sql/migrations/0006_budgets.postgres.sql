ALTER TABLE "service_rate_limit_state" ADD COLUMN "granted" DOUBLE PRECISION NOT NULL DEFAULT 0;

ALTER TABLE "service_rate_limit_state" ADD COLUMN "period" INTEGER NOT NULL DEFAULT 0;

ALTER TABLE "service_rate_limit_state" ADD COLUMN "paused_until" TIMESTAMPTZ;

ALTER TABLE "service_rate_limit_state" ADD COLUMN "waiting_until" TIMESTAMPTZ;

CREATE INDEX "ix_service_rate_limit_state_waiting" ON "service_rate_limit_state" ("provider_id", "bucket_key") WHERE waiting_until IS NOT NULL;
