"""Errors that a protocol tells in answers of another status: GraphQL in one of 200, SOAP in one of 500."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from go_services_core.errors import (
    ProviderError,
    ProviderForbidden,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
)

_STATUS: Final[Mapping[type[ProviderError], int]] = {
    ProviderUnauthorized: 401,
    ProviderForbidden: 403,
    ProviderNotFoundAnswer: 404,
    RateLimited: 429,
    ProviderUnavailable: 502,
    ProviderError: 400,
}


def meant(cls: type[ProviderError], message: str, **details: Any) -> ProviderError:
    """An error whose ``status`` is what it means; ``upstream_status`` stays what it was."""
    error = cls(message, **details)
    error.status = _STATUS[cls]
    return error
