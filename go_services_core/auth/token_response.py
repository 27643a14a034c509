"""Reading a token endpoint's answer: strict about what matters, tolerant of what vendors vary (RFC 6749 §5)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from ..errors import InvalidGrant, ProviderUnavailable, RateLimited, TokenEndpointError, TokenResponseInvalid
from ..http import HttpResponse
from ..model import TokenSet
from ..redaction import scrub
from ..retry_after import retry_after
from ..secret import SecretStr
from .identity import pick

_ERROR_FIELDS = ("error", "error_description")
_STANDARD = {
    "access_token", "token_type", "refresh_token", "expires_in", "refresh_token_expires_in", "scope", "id_token",
    *_ERROR_FIELDS,
}  # fmt: skip
_LONGEST_LIFE = 100 * 365 * 86400.0
_ERROR_CODE = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,80}")
"""The characters that RFC 6749 §5.2 allows in ``error``."""
_TOKEN = re.compile(r"[\x20-\x7e]+")
"""The characters that RFC 6749 appendix A.12 allows in a token; others could not stand in a header."""


def parse_token_response(
    response: HttpResponse,
    *,
    now: datetime,
    default_lifetime: float | None = None,
    refresh_lifetime: float | None = None,
    refreshing: bool = False,
    sent: Iterable[SecretStr | None] = (),
    paths: Mapping[str, str] = MappingProxyType({}),
    scope_separator: str = " ",
) -> TokenSet:
    """The tokens in ``response``.

    The body is read as JSON or as a form, whatever the content type claims. ``expires_in`` may be a number or a numeric
    string; absent or not positive means ``default_lifetime``, more than a century no expiry; of a refresh token that
    came, ``refresh_lifetime``. ``scope`` may be a string
    separated by spaces, commas or ``scope_separator``, or a list; absent means unchanged, and so does blank while
    ``refreshing``. A refresh token that is the access token is none. ``sent`` are the secrets of the request: they are
    removed from whatever the endpoint says. ``paths`` are as in ``OAuth2Client.token_response``.

    Raises:
        InvalidGrant: ``error`` is ``invalid_grant``.
        TokenEndpointError: any other ``error``, also inside a 200.
        RateLimited, ProviderUnavailable: 429 or 5xx without an OAuth error.
        TokenResponseInvalid: no error, and no access token either; or a token that no header can hold.
    """
    fields = _at_top(
        read_answer(response, now=now, sent=sent, paths=paths, refused=_grant_error, invalid=TokenResponseInvalid),
        paths,
    )
    access_token = _token(fields, "access_token")
    if access_token is None:
        raise TokenResponseInvalid("The token endpoint's answer has no access_token.")
    refresh_token = _token(fields, "refresh_token")
    token_type = fields.get("token_type")
    refresh_expires_in = fields.get("refresh_token_expires_in", fields.get("refresh_expires_in"))
    return TokenSet(
        access_token=access_token,
        token_type=token_type.lower() if isinstance(token_type, str) and token_type else "bearer",
        refresh_token=None if refresh_token == access_token else refresh_token,
        expires_at=_expiry(fields.get("expires_in"), now, default_lifetime),
        refresh_expires_at=_expiry(refresh_expires_in, now, None if refresh_token is None else refresh_lifetime),
        granted=_scope(fields.get("scope"), scope_separator, blank_is_unchanged=refreshing),
        id_token=_token(fields, "id_token"),
        extra={
            name: SecretStr(str(value))
            for name in paths
            if name not in _STANDARD and type(value := fields.get(name)) in (str, int) and value != ""
        },
    )


def read_answer(
    response: HttpResponse,
    *,
    now: datetime,
    endpoint: str = "token endpoint",
    sent: Iterable[SecretStr | None] = (),
    paths: Mapping[str, str] = MappingProxyType({}),
    refused: Callable[..., TokenEndpointError] = TokenEndpointError,
    invalid: type[TokenEndpointError] = TokenEndpointError,
) -> dict[str, Any]:
    """The fields of a good answer of any endpoint at which a client authenticates itself.

    Raises:
        TokenEndpointError: what ``refused`` makes of an OAuth error, also inside a 200; ``invalid`` for an answer that
            is neither an error nor fields.
        RateLimited, ProviderUnavailable: 429 or 5xx without an OAuth error.
    """
    fields = _fields(response)
    said = _at_top(fields or {}, {name: path for name, path in paths.items() if name in _ERROR_FIELDS})
    if said.get("error"):
        raise _refusal(said["error"], said.get("error_description"), tuple(sent), endpoint, refused)
    if response.status == 429:
        raise RateLimited(f"The {endpoint} asks to wait.", upstream_status=429, retry_after=retry_after(response, now))
    if response.status >= 500:
        raise ProviderUnavailable(
            f"The {endpoint} is failing (status {response.status}).", upstream_status=response.status
        )
    if not 200 <= response.status < 300:
        raise invalid(f"The {endpoint} answered with status {response.status} and no OAuth error.")
    if fields is None:
        kind = response.content_type or "no content type"
        raise invalid(f"The {endpoint}'s answer is neither JSON nor a form ({kind}, {len(response.body)} bytes).")
    return fields


def _at_top(fields: dict[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """``fields`` with those of ``paths`` at the top; what stands there by the same name is something else."""
    moved = dict(fields)
    for name, alternatives in paths.items():
        found = (pick(fields, path.strip()) for path in alternatives.split("|"))
        moved[name] = next((value for value in found if value is not None), None)
    return moved


def _token(fields: dict[str, Any], name: str) -> SecretStr | None:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        return None
    if not _TOKEN.fullmatch(value):
        raise TokenResponseInvalid(f"The token endpoint's {name} holds characters that no token may have.")
    return SecretStr(value)


def _fields(response: HttpResponse) -> dict[str, Any] | None:
    try:
        read = json.loads(response.body)
        return read if isinstance(read, dict) else None
    except (ValueError, RecursionError):
        pass
    if "html" in response.content_type:
        return None
    try:
        pairs = parse_qsl(response.body.decode("utf-8"), strict_parsing=True)
    except ValueError:
        return None
    return dict(pairs)


def _refusal(
    error: Any,
    description: Any,
    sent: tuple[SecretStr | None, ...],
    endpoint: str,
    refused: Callable[..., TokenEndpointError],
) -> TokenEndpointError:
    readable = isinstance(error, str) and _ERROR_CODE.fullmatch(error)
    code = scrub(error, sent, limit=80) if readable else "an unreadable error code"
    said = f": {scrub(description, sent)}" if isinstance(description, str) and description else ""
    return refused(f"The {endpoint} refused with {code}{said}.", error=code)


def _grant_error(message: str, *, error: str) -> TokenEndpointError:
    return (InvalidGrant if error == "invalid_grant" else TokenEndpointError)(message, error=error)


def _expiry(value: Any, now: datetime, default: float | None) -> datetime | None:
    seconds = default
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            read = float(value)
        except ValueError:
            read = math.nan
        except OverflowError:  # an integer of more than 308 digits
            return None
        if math.isfinite(read) and read > 0:
            seconds = read
    if seconds is None or seconds > _LONGEST_LIFE:
        return None
    return now + timedelta(seconds=seconds)


def _scope(value: Any, separator: str, *, blank_is_unchanged: bool) -> tuple[str, ...] | None:
    if isinstance(value, str):
        scopes = value.replace(separator or " ", " ").replace(",", " ").split()
    elif isinstance(value, list):
        scopes = [item for item in value if isinstance(item, str) and item]
    else:
        return None
    if not scopes and blank_is_unchanged:
        return None
    return tuple(dict.fromkeys(scopes))
