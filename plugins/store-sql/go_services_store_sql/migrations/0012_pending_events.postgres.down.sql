DROP INDEX "ix_service_lifecycle_outbox_connection";

CREATE INDEX "ix_service_lifecycle_outbox_connection" ON "service_lifecycle_outbox" ("connection_id");

UPDATE "service_lifecycle_outbox" SET "status" = CASE WHEN "event_id" IN (SELECT "event_id" FROM "service_pending_events") THEN 'pending' ELSE 'delivered' END WHERE "status" = 'committed';

CREATE INDEX "ix_service_lifecycle_outbox_order" ON "service_lifecycle_outbox" ("order_key", "event_id") WHERE status = 'pending' AND order_key IS NOT NULL;

CREATE INDEX "ix_service_lifecycle_outbox_pending" ON "service_lifecycle_outbox" ("event_id") WHERE status = 'pending';

DROP TABLE "service_pending_events";
