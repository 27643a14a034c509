DROP INDEX "ix_service_sync_jobs_dead";

DROP INDEX "ix_service_webhook_deliveries_dead";

DROP TABLE "service_workers";
