"""Log records of go_services as structlog events."""

__version__ = "0.1.0"
