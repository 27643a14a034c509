ALTER TABLE "service_lifecycle_outbox" ADD COLUMN "version" INTEGER NOT NULL DEFAULT 1;

ALTER TABLE "service_event_handlers" ADD COLUMN "seen_at" TIMESTAMPTZ;

ALTER TABLE "service_event_deliveries" ADD COLUMN "crashes" INTEGER NOT NULL DEFAULT 0;

CREATE INDEX "ix_service_event_deliveries_dead" ON "service_event_deliveries" ("event_id", "handler") WHERE status = 'dead';

CREATE TABLE "service_event_positions" ("id" TEXT NOT NULL PRIMARY KEY, "handler" TEXT NOT NULL, "key" TEXT NOT NULL, "at" BIGINT NOT NULL, "updated_at" TIMESTAMPTZ NOT NULL);

CREATE INDEX "ix_service_event_positions_handler" ON "service_event_positions" ("handler");
