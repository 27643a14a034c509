DROP TABLE "service_event_positions";

DROP INDEX "ix_service_event_deliveries_dead";

ALTER TABLE "service_event_deliveries" DROP COLUMN "crashes";

ALTER TABLE "service_event_handlers" DROP COLUMN "seen_at";

ALTER TABLE "service_lifecycle_outbox" DROP COLUMN "version";
