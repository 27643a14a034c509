"""Alerts by which a TLS server says that it does not accept the client's certificate."""

from __future__ import annotations

import re
from typing import Final

import aiohttp

_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "it wants one, and none was presented",
    "BAD_CERTIFICATE": "bad certificate",
    "UNSUPPORTED_CERTIFICATE": "unsupported certificate",
    "CERTIFICATE_REVOKED": "certificate revoked",
    "CERTIFICATE_EXPIRED": "certificate expired",
    "CERTIFICATE_UNKNOWN": "certificate unknown",
    "UNKNOWN_CA": "unknown authority",
    "DECRYPT_ERROR": "signature not accepted",
}
"""The alerts by which a server refuses the client's certificate (RFC 8446 §6.2), as OpenSSL names them."""
_ALERT: Final = re.compile(r"_ALERT_([A-Z_]+)")


def certificate_refusal(error: Exception) -> str | None:
    """Why the server refuses the client's certificate, or None where that is not what happened."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if not isinstance(cause, OSError):
        return None
    # aiohttp gives the words of an alert that comes after the handshake as another error's, without its reason.
    told = getattr(cause, "reason", None) or str(cause.strerror or "")
    found = _ALERT.search(told)
    return _ALERTS.get(found[1]) if found is not None else None
