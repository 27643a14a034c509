"""Where an application sends the person after a callback: only to places that its configuration lists.

A value from a request that ends in a ``Location`` header makes an open redirector (RFC 9700 §4.11.1). What is compared
here is therefore only what every browser reads in the same way; whatever they may read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen

from .errors import ReturnToRefused

_PLAIN = re.compile(r"[!-~]+")
"""Printable ASCII without the space: browsers drop control characters, and fold other letters in host names."""
_PORTS = {"https": 443, "http": 80}


@frozen
class _Place:
    origin: tuple[str, str, int] | None
    """Scheme, host and port; None for a path on the application's own site."""
    path: str


def check_return_to(value: str, allowed: Iterable[str]) -> str:
    """``value``, if it is at one of the ``allowed`` places or below it.

    An allowed place is an origin (``https://app.example``), a URL whose path is a prefix (``https://app.example/done``),
    or a path on the application's own site (``/settings``; ``/`` allows every path). Scheme, host and port are compared
    exactly, paths by whole segments. Query and fragment of ``value`` are free.

    Raises:
        ReturnToRefused: it is not there, or browsers could read it in another way.
    """
    place = _read(value)
    if not any(_covers(_read(entry), place) for entry in allowed):
        raise ReturnToRefused(
            "The place to return to is not one that the application allows.",
            hint="List its origin or path in runtime.return_to.",
            field="return_to",
        )
    return value


def allowed_places(record: Any, attribute: Any, value: Iterable[str]) -> None:
    """Validates the setting ``[runtime] return_to``.

    Raises:
        ReturnToRefused: an entry cannot be compared with anything.
    """
    for entry in value:
        try:
            _read(entry)
        except ReturnToRefused as refused:
            raise ReturnToRefused(f"runtime.return_to, {entry!r}: {refused.message}", field="return_to") from None
        if "?" in entry or "#" in entry:
            raise ReturnToRefused(f"runtime.return_to, {entry!r}: leave out query and fragment.", field="return_to")


def _covers(entry: _Place, place: _Place) -> bool:
    prefix = entry.path.rstrip("/")
    return entry.origin == place.origin and (place.path == entry.path or f"{place.path}/".startswith(f"{prefix}/"))


def _read(value: str) -> _Place:
    if not _PLAIN.fullmatch(value) or "\\" in value:
        raise _refused("is empty, or has spaces, control characters, backslashes or letters beyond ASCII")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise _refused("is not a URL") from None
    segments = unquote(unquote(parts.path)).replace("\\", "/").split("/")
    if ".." in segments or "." in segments or "" in segments[1:-1]:
        raise _refused("has dot segments or empty segments in its path")
    if not parts.scheme and value.startswith("/") and not parts.netloc:
        return _Place(None, parts.path)
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise _refused("is neither a path that begins with one slash nor an http or https URL without a user")
    return _Place((parts.scheme, parts.hostname, port or _PORTS[parts.scheme]), parts.path or "/")


def _refused(why: str) -> ReturnToRefused:
    return ReturnToRefused(f"The place to return to {why}.", field="return_to")
