"""PostgreSQL store for go_services."""

__version__ = "0.1.0"
