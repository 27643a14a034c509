"""Metrics of go_services for Prometheus."""

__version__ = "0.1.0"
