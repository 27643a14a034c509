"""JSON objects in which nothing can be read in two ways."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def read_object(text: str | bytes) -> dict[str, Any]:
    """The members of a JSON object.

    Raises:
        ValueError: not UTF-8, not JSON, not an object, a member that occurs twice (RFC 7515 §4, RFC 7519 §4), or a
            number that JSON does not have; the message says which and shows nothing of the text.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the text is wrong, not a type of ours
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _refuse(name: str) -> NoReturn:
    raise ValueError("not a number of JSON")
