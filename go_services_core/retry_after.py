"""How long an answer asks to wait."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .http import HttpResponse

_LONGEST = 365 * 86_400.0
"""Seconds that an answer may ask for; more is no time that anybody means."""
_DIGITS = re.compile(r"[0-9]{1,15}")


def retry_after(response: HttpResponse, now: datetime) -> float | None:
    """Seconds to wait by ``Retry-After`` (RFC 9110 §10.2.3: seconds or a date), else by ``X-RateLimit-Reset`` when
    nothing remains; None when the answer does not say."""
    value = response.header("retry-after")
    if value is not None:
        return _seconds(value.strip(), now)
    if (response.header("x-ratelimit-remaining") or "").strip() == "0":
        reset = response.header("x-ratelimit-reset")
        if reset is not None and _DIGITS.fullmatch(reset.strip()):
            at = float(reset)
            # Both an epoch and seconds from now are in use; no wait is 30 years long.
            return max(0.0, at - now.timestamp()) if at > 1e9 else at
    return None


def _seconds(value: str, now: datetime) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        seconds = max(0.0, (at - now).total_seconds())
    return seconds if 0 <= seconds <= _LONGEST else None
