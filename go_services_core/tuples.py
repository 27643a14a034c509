"""Fields that hold several values, where records are often written with one."""

from __future__ import annotations

from typing import Any


def as_tuple(value: Any) -> Any:
    """A converter for such fields: lists become tuples, anything else the only value of one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
