"""Values of parameters: whether they fit what an operation declares, and how they are written in a request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final
from urllib.parse import quote

from ..errors import BadInput, nearest
from ..specs import Operation, Param

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "date": (date, str),
    "datetime": (datetime, str),
    "bytes": (bytes,),
}


def fitted(operation: Operation, param: Param, value: Any) -> Any:
    """``value``, of the type and within the limits that ``param`` declares; a date as its text.

    Raises:
        BadInput: it does not fit; the message does not repeat it.
    """
    kind = param.type
    fits = isinstance(value, _TYPES[kind])
    if isinstance(value, bool) and kind in ("integer", "number"):
        fits = False
    if not fits:
        raise BadInput(
            f"The parameter {param.name!r} of operation {operation.id} is {kind}, not {type(value).__name__}.",
            field=param.name,
        )
    if kind == "date" or kind == "datetime":
        value = _moment(operation, param, value)
    if param.choices:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if one not in param.choices or isinstance(one, bool):
                raise _not_a_choice(operation, param, one)
    if param.minimum is not None or param.maximum is not None:
        _check_limits(operation, param, value)
    return value


def _moment(operation: Operation, param: Param, value: Any) -> str:
    """RFC 3339 §5.6."""
    form = "a date, YYYY-MM-DD"
    if param.type == "datetime":
        form = "a time with its offset, 2026-01-31T12:00:00Z, or an aware datetime"
    try:
        if isinstance(value, str):
            made: date = datetime.fromisoformat(value) if param.type == "datetime" else date.fromisoformat(value)
        else:
            made = value
        naive = isinstance(made, datetime) and made.tzinfo is None
        if naive or isinstance(made, datetime) != (param.type == "datetime"):
            raise ValueError
    except ValueError:
        raise BadInput(
            f"The parameter {param.name!r} of operation {operation.id} is {form}.", field=param.name
        ) from None
    return value if isinstance(value, str) else made.isoformat().replace("+00:00", "Z")


def _not_a_choice(operation: Operation, param: Param, value: Any) -> BadInput:
    choices = [str(choice) for choice in param.choices]
    near = nearest(value, choices) if isinstance(value, str) else None
    return BadInput(
        f"The parameter {param.name!r} of operation {operation.id} is one of {', '.join(choices)}.",
        hint=f"Did you mean {near!r}?" if near else None,
        field=param.name,
    )


def _check_limits(operation: Operation, param: Param, value: Any) -> None:
    low, high = param.minimum, param.maximum
    if (low is None or value >= low) and (high is None or value <= high):
        return
    limits = " and ".join(
        f"{text} {limit:g}" for text, limit in (("at least", low), ("at most", high)) if limit is not None
    )
    raise BadInput(f"The parameter {param.name!r} of operation {operation.id} is {limits}.", field=param.name)


def text(operation: Operation, name: str, value: Any) -> str:
    """A single value as a header carries it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        what = f"{value}" if isinstance(value, float) else type(value).__name__
        raise BadInput(f"The parameter {name!r} of operation {operation.id} cannot be sent as {what}.", field=name)
    try:
        return str(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        raise BadInput(f"The parameter {name!r} of operation {operation.id} is too long.", field=name) from None


def encoded(operation: Operation, name: str, value: Any) -> str:
    """A single value as a query carries it."""
    try:
        return quote(text(operation, name, value), safe="")
    except UnicodeEncodeError:
        raise BadInput(
            f"The parameter {name!r} of operation {operation.id} holds a character that cannot be encoded.", field=name
        ) from None


def in_query(operation: Operation, param: Param, wire: str, value: Any) -> list[str]:
    """The pairs ``name=value`` of a parameter; ``wire`` is its encoded name."""
    name = param.name
    if isinstance(value, dict) and param.style == "brackets":
        return [
            f"{wire}%5B{encoded(operation, name, key)}%5D={encoded(operation, name, item)}"
            for key, item in value.items()
        ]
    if not isinstance(value, (list, tuple)):
        return [f"{wire}={encoded(operation, name, value)}"]
    items = [encoded(operation, name, item) for item in value]
    if param.style == "comma":
        return [f"{wire}={','.join(items)}"] if items else []
    suffix = "%5B%5D" if param.style == "brackets" else ""
    return [f"{wire}{suffix}={item}" for item in items]


def in_path(operation: Operation, param: Param, value: Any) -> str:
    """A path segment, or several of the style ``segments``.

    Dots alone would climb out of the template (RFC 3986 §5.2.4), however they are encoded.
    """
    parts = value.split("/") if param.style == "segments" and isinstance(value, str) else (value,)
    for part in parts:
        if part in ("", ".", ".."):
            raise BadInput(
                f"The parameter {param.name!r} of operation {operation.id} cannot be {part!r}"
                f"{' between its slashes' if len(parts) > 1 else ''}.",
                field=param.name,
            )
    return "/".join([encoded(operation, param.name, part) for part in parts])
