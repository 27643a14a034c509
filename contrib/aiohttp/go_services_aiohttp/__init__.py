"""go_services in aiohttp applications."""

from .app import setup

__all__ = ["setup"]
__version__ = "0.1.0"
