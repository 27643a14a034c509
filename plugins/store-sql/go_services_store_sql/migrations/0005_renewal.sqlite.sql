CREATE INDEX "ix_service_credentials_ending" ON "service_credentials" ("expires_at", "connection_id") WHERE status = 'active' AND refreshable;

CREATE INDEX "ix_service_credentials_unused" ON "service_credentials" ("created_at", "connection_id") WHERE status = 'active' AND refreshable;
