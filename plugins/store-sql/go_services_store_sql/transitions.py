"""Steps between statuses, allowed by the statement that takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from go_services_core.errors import InvalidTransition, NotFound

AMONG: Final = {
    "sqlite": "IN (SELECT value FROM json_each(:before))",
    "postgres": "= ANY (ARRAY(SELECT jsonb_array_elements_text(:before)))",
}


def from_any(text: str) -> Mapping[str, str]:
    """The text for each dialect, where ``status @before`` means: one of the JSON array ``:before``."""
    return {dialect: text.replace("@before", among) for dialect, among in AMONG.items()}


def among(statuses: Iterable[str], text: str) -> str:
    """The text where ``status @before`` means: one of these, which are the same at every call."""
    return text.replace("@before", f"IN ({', '.join(map(repr, statuses))})")


def missing(what: str, id: str) -> NotFound:
    """The error for an id without a row."""
    return NotFound(f"There is no {what} {id!r}.", metadata={"id": id})


def not_allowed(what: str, id: str, before: str, after: str) -> InvalidTransition:
    """The error for a step that the row's status does not allow, or that was asked from another status."""
    return InvalidTransition(
        f"This {what} is {before} and does not become {after} now.", metadata={"id": id, "status": before}
    )
