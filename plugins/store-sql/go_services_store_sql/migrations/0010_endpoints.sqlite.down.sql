DROP INDEX "ix_service_webhook_endpoints_scope";

DROP TABLE "service_webhook_endpoints";
