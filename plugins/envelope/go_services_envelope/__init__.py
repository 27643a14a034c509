"""The envelope that seals go_services' secrets, and the policy that secret backends share.

``Sealer`` is imported when it is first used: the settings of a backend import ``policy``, and need no cryptography.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .sealer import Sealer

__version__ = "0.1.0"
__all__ = ["Sealer"]


def __getattr__(name: str) -> Any:
    if name != "Sealer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .sealer import Sealer

    globals()[name] = Sealer
    return Sealer


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
