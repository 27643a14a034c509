DROP INDEX "ix_service_event_deliveries_order";

ALTER TABLE "service_event_deliveries" DROP COLUMN "order_key";

DROP INDEX "ix_service_webhook_deliveries_order";

ALTER TABLE "service_webhook_deliveries" DROP COLUMN "order_key";

DROP INDEX "ix_service_lifecycle_outbox_order";

ALTER TABLE "service_lifecycle_outbox" DROP COLUMN "order_key";

DROP TABLE "service_sync_change_log";

DROP TABLE "service_sync_conflicts";

DROP TABLE "service_identity_bindings";

DROP TABLE "service_sync_checkpoints";

DROP TABLE "service_sync_bindings";

DROP TABLE "service_mapping_specs";

DROP TABLE "service_activity_entries";

DROP TABLE "service_notification_dispatches";

DROP TABLE "service_idempotency";

DROP TABLE "service_sync_job_idempotency";

DROP TABLE "service_sync_jobs";

DROP TABLE "service_rate_limit_state";

DROP TABLE "service_installations";

DROP TABLE "service_sync_cursors";

DROP TABLE "service_subscriptions";
