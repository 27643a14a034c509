"""AWS KMS as secret backend of go_services, and AWS Secrets Manager as source of settings' secrets."""

__version__ = "0.1.0"
