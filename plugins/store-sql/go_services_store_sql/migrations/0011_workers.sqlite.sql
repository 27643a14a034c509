CREATE TABLE "service_workers" ("id" TEXT NOT NULL PRIMARY KEY, "host" TEXT NOT NULL, "pid" INTEGER NOT NULL, "kinds" TEXT NOT NULL DEFAULT '[]', "counts" TEXT NOT NULL DEFAULT '{}', "started_at" TEXT NOT NULL, "beat_at" TEXT NOT NULL, "expires_at" TEXT NOT NULL);

CREATE INDEX "ix_service_webhook_deliveries_dead" ON "service_webhook_deliveries" ("id") WHERE status = 'dead';

CREATE INDEX "ix_service_sync_jobs_dead" ON "service_sync_jobs" ("id") WHERE status = 'failed';
