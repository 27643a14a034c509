"""Reading request parameters as RFC 6749 §3.1 and §3.2 demand: none may be repeated, a blank one counts as absent."""

from __future__ import annotations

from urllib.parse import parse_qsl

from aiohttp import web

from .refused import Refused


def _decode(encoded: str) -> tuple[dict[str, str], frozenset[str]]:
    """The parameters by name, and the names that were repeated."""
    try:
        pairs = parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:  # also UnicodeDecodeError
        raise Refused("invalid_request", "The parameters cannot be decoded.") from None
    names = [name for name, _ in pairs]
    repeated = frozenset(name for name in names if names.count(name) > 1)
    return {name: value for name, value in pairs if value}, repeated


def query(request: web.Request) -> tuple[dict[str, str], frozenset[str]]:
    """The query parameters by name, and the names that were repeated.

    Raises:
        Refused: the query is not UTF-8, or has more than 50 fields.
    """
    return _decode(request.raw_path.partition("?")[2])


async def form(request: web.Request) -> dict[str, str]:
    """The fields of a form body.

    Raises:
        Refused: another content type, a repeated field, or fields in the URL, where logs would keep them
            (RFC 6749 §2.3.1).
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "The content type must be application/x-www-form-urlencoded.")
    if "?" in request.raw_path:
        raise Refused("invalid_request", "Parameters belong into the body, not into the URL.")
    try:
        encoded = (await request.read()).decode("ascii")
    except UnicodeDecodeError:
        raise Refused("invalid_request", "The body is not form-encoded.") from None
    fields, repeated = _decode(encoded)
    if repeated:
        raise Refused("invalid_request", f"Repeated: {', '.join(sorted(repeated))}.")
    return fields
