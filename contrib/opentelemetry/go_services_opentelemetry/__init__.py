"""Spans and metrics of go_services for OpenTelemetry."""

__version__ = "0.1.0"
