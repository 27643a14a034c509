"""Secret backend of go_services with keys of the application's own."""

__version__ = "0.1.0"
