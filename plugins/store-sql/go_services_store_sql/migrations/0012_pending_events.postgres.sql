CREATE TABLE "service_pending_events" ("event_id" TEXT NOT NULL PRIMARY KEY, "order_key" TEXT);

INSERT INTO "service_pending_events" ("event_id", "order_key") SELECT "event_id", "order_key" FROM "service_lifecycle_outbox" WHERE status = 'pending';

CREATE INDEX "ix_service_pending_events_order" ON "service_pending_events" ("order_key", "event_id") WHERE order_key IS NOT NULL;

UPDATE "service_lifecycle_outbox" SET "status" = 'committed' WHERE status = 'pending';

DROP INDEX "ix_service_lifecycle_outbox_pending";

DROP INDEX "ix_service_lifecycle_outbox_order";

DROP INDEX "ix_service_lifecycle_outbox_connection";

CREATE INDEX "ix_service_lifecycle_outbox_connection" ON "service_lifecycle_outbox" ("connection_id") WHERE connection_id IS NOT NULL;
