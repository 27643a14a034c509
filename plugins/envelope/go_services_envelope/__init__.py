"""The envelope that seals go_services' secrets."""

from .sealer import Sealer

__version__ = "0.1.0"
__all__ = ["Sealer"]
