"""Acme provider for go_services."""
