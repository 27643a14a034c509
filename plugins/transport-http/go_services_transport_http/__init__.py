"""HTTP transport for go_services, on aiohttp, with an egress guard."""

__version__ = "0.1.0"
