DROP TABLE "service_migrations";

DROP TABLE "service_meta";

DROP TABLE "service_replay_ledger";

DROP TABLE "service_event_deliveries";

DROP TABLE "service_event_handlers";

DROP TABLE "service_leases";

DROP TABLE "service_refresh_intents";

DROP TABLE "service_oauth_attempts";

DROP TABLE "service_webhook_deliveries";

DROP TABLE "service_lifecycle_outbox";

DROP TABLE "service_grant_events";

DROP TABLE "service_grant_snapshots";

DROP TABLE "service_credentials";

DROP TABLE "service_connections";
