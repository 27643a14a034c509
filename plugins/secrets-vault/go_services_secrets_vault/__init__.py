"""Secret backend and secret source of go_services over Vault or OpenBao."""

__version__ = "0.1.0"
