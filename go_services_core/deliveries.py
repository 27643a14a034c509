"""Deliveries as operators see them, and what a replay did."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal, TypeAlias

from attrs import evolve, frozen

from .model import Scope

DeliveryStatus: TypeAlias = Literal[
    "pending", "processing", "retry_ready", "processed", "superseded", "dead", "quarantined", "dropped"
]
STATUSES: Final[tuple[DeliveryStatus, ...]] = (
    "pending", "processing", "retry_ready", "processed", "superseded", "dead", "quarantined", "dropped",
)  # fmt: skip


@frozen(kw_only=True)
class HandlerState:
    """What became of a delivery's event at one handler."""

    handler: str
    status: str
    """pending, processing, retry_ready, delivered or dead."""
    attempts: int
    fence: int
    """Counts the claims: a replay counts only where it is still the one that was seen."""
    error: str
    next_attempt_at: datetime | None
    updated_at: datetime


@frozen(kw_only=True)
class Delivery:
    """A delivery as it stands; ``Runtime.delivery_request`` opens what was received."""

    id: str
    provider_id: str
    connection_id: str | None
    scope: Scope | None
    delivery_id: str
    event: str
    """As the provider names it; handlers get ``webhook.<event>``."""
    channel: str
    resource: str
    status: DeliveryStatus
    attempts: int
    """To pass it on to its handlers; theirs are counted for themselves."""
    fence: int
    error: str
    received_at: datetime
    next_attempt_at: datetime | None
    passed_on: bool
    """Whether its event is in the outbox."""
    handlers: tuple[HandlerState, ...] = ()

    def handled_by(self, handlers: Iterable[HandlerState]) -> Delivery:
        """The same with these handlers."""
        return evolve(self, handlers=tuple(handlers))

    @property
    def dead(self) -> bool:
        """Whether it, or its event at a handler, was given up."""
        return self.status == "dead" or any(one.status == "dead" for one in self.handlers)


@frozen(kw_only=True)
class Redelivered:
    """What a replay did, or would do."""

    seen: int = 0
    """Deliveries that were looked at."""
    deliveries: int = 0
    """Deliveries that are passed on to their handlers anew."""
    handlers: int = 0
    """Handlers, counted for each delivery, that get theirs once more."""
    changed_meanwhile: int = 0
    """What somebody else replayed, or a worker went on with, between the look and the change."""
