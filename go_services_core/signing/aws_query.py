"""Queries as AWS Signature Version 4 wants them: encoded by RFC 3986, in capitals, and sorted."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_OWN_PARAMETERS: Final = frozenset(
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Security-Token", "Signature")
)
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
_ENCODED: Final = "(?:[A-Za-z0-9._~-]|%(?:[0189A-F][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF]))*"
_CANONICAL_QUERY: Final = re.compile(f"{_ENCODED}={_ENCODED}(?:&{_ENCODED}={_ENCODED})*")
"""A query whose parameters only have to be sorted: no byte that is unreserved is encoded, and every other is."""


def pairs_of(query: str) -> list[tuple[str, str]]:
    """Names and values decoded and encoded as AWS wants (RFC 3986, no ``+``), sorted by name, then by value."""
    if _CANONICAL_QUERY.fullmatch(query):
        pairs = [(name, value) for name, _, value in [part.partition("=") for part in query.split("&")]]
    else:
        parts = [part.replace("+", "%20").partition("=") for part in query.split("&") if part]
        pairs = [(encoded(name), encoded(value)) for name, _, value in parts]
    pairs.sort()
    return pairs


def encoded(text: str) -> str:
    """What is encoded in some way, encoded as AWS wants it: everything but unreserved characters, in capitals."""
    return text if _UNRESERVED.fullmatch(text) else quote(unquote_to_bytes(text), safe="")


def kept_query(query: str) -> list[str]:
    """The parameters that are not of a signature, as they stand."""
    return (
        [part for part in query.split("&") if encoded(part.partition("=")[0]) not in _OWN_PARAMETERS] if query else []
    )
