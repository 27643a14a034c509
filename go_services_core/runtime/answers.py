"""What a successful answer holds: its decoded body, and what stands at a path inside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import ResponseInvalid
from ..http import HttpResponse
from ..specs import Operation

MISSING: Final = object()
"""What :func:`at` gives where a path leads nowhere."""


def decoded(operation: Operation, response: HttpResponse) -> Any:
    """The body as ``operation.answer`` wants it; None where it is empty.

    Raises:
        ResponseInvalid: it is not JSON where it should be.
    """
    if not response.body:
        return None
    answer: str = operation.answer
    if answer == "auto":
        answer = _kind(response.content_type)
    if answer == "bytes":
        return response.body
    if answer == "text":
        return response.body.decode("utf-8", "replace")
    try:
        # JSON between systems is UTF-8 (RFC 8259 §8.1); decoding here saves the guess that json.loads makes of bytes.
        return json.loads(response.body.decode())
    except (ValueError, RecursionError):
        kind = response.content_type or "no content type"
        raise ResponseInvalid(
            f"The answer to {operation.id} is not JSON ({kind}, {len(response.body)} bytes)."
        ) from None


def mapped(operation: Operation, data: Any) -> Any:
    """What the caller wants of an answer: the value at ``operation.result``, or all of it.

    Raises:
        ResponseInvalid: the answer has nothing at that path.
    """
    if operation.result is None or data is None:
        return data
    found = at(data, operation.result)
    if found is MISSING:
        raise ResponseInvalid(f"The answer to {operation.id} has nothing at {operation.result!r}.")
    return found


def at(data: Any, path: str) -> Any:
    """The value at a dotted path of mappings and positions in lists, or :data:`MISSING`."""
    for name in path.split("."):
        if isinstance(data, Mapping) and name in data:
            data = data[name]
        elif isinstance(data, list) and name.removeprefix("-").isdecimal() and -len(data) <= int(name) < len(data):
            data = data[int(name)]
        else:
            return MISSING
    return data


def _kind(content_type: str) -> str:
    if content_type == "application/json" or content_type.endswith("+json"):
        return "json"
    return "text" if content_type.startswith("text/") else "bytes"
