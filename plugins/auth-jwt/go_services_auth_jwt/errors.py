"""Why a token is not believed."""

from __future__ import annotations

from typing import Any

from go_services_core.errors import AuthError


class JwtInvalid(AuthError):
    """The token is not acceptable.

    ``field`` names what is wrong with it: a header (``alg``, ``kid``), a claim (``iss``, ``nonce``), or ``signature``.
    The message holds nothing of the token.
    """

    def __init__(self, message: str | None = None, *, plugin: str | None = "auth-jwt", **details: Any) -> None:
        super().__init__(message, plugin=plugin, **details)


class UnknownKey(JwtInvalid):
    """The key set has no key that the token names.

    The issuer may have begun to sign with a new key: fetch its key set again, once, and try again.
    """
