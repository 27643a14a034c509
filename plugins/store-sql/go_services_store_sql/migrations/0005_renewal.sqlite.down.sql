DROP INDEX "ix_service_credentials_unused";

DROP INDEX "ix_service_credentials_ending";
