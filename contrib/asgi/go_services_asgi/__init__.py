"""go_services as an ASGI application."""

from .app import GoServices

__all__ = ["GoServices"]
__version__ = "0.1.0"
