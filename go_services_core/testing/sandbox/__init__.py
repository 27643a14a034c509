"""A provider to develop and test against: an OAuth server that refuses what a strict one refuses, an API, and webhooks.

::

    async with Sandbox() as sandbox:
        spec, settings = sandbox.spec(), sandbox.config()

Importing this package imports aiohttp (the extra ``testing``).
"""

from .faults import FaultKind, Faults
from .process import SandboxProcess
from .server import ENDPOINTS, Sandbox, SandboxOptions, serve
from .spec import Registration
from .state import Account
from .token import TokenAnswer

__all__ = [
    "ENDPOINTS",
    "Account",
    "FaultKind",
    "Faults",
    "Registration",
    "Sandbox",
    "SandboxOptions",
    "SandboxProcess",
    "TokenAnswer",
    "serve",
]
