"""What every list and claim checks."""

from __future__ import annotations

from go_services_core.errors import BadInput


def at_least_one(limit: int) -> None:
    """Raises BadInput."""
    if limit < 1:
        raise BadInput(f"A limit is at least 1, not {limit}.", field="limit")
