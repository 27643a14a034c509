"""What the status of a connection may become; ``docs/reference/states.md`` says who causes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .model import ConnectionStatus

CONNECTION_MOVES: Final[Mapping[ConnectionStatus, frozenset[ConnectionStatus]]] = {
    "active": frozenset({"disconnected", "errored", "pending_reauth", "needs_reconsent"}),
    "disconnected": frozenset({"active"}),
    "errored": frozenset({"active", "pending_reauth", "disconnected"}),
    "pending_reauth": frozenset({"active", "disconnected"}),
    "needs_reconsent": frozenset({"active", "disconnected", "pending_reauth"}),
}
"""Status → what it may become. Nothing sets ``errored``: only rows adopted from the Go system have it."""


def may_become(status: ConnectionStatus) -> tuple[ConnectionStatus, ...]:
    """The other statuses that may become ``status``, in alphabetical order."""
    return tuple(sorted(before for before, after in CONNECTION_MOVES.items() if status in after))


RENEWED: Final[tuple[ConnectionStatus, ...]] = ("active", "needs_reconsent")
"""Statuses in which the token of a renewal that had begun before is saved: there may be no other that is valid."""
