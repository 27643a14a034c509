"""Notifications of people: what those who define, address and send them are given."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from attrs import frozen

from .model import Event

if TYPE_CHECKING:
    from .handler_protocols import HandlerContext


@frozen
class Recipient:
    """Who is told: ``Recipient("user", "u1")``."""

    type: str
    id: str

    @property
    def key(self) -> str:
        """``user:u1``: the type in lower case and the id, or the id alone where there is no type."""
        return f"{self.type.strip().lower()}:{self.id.strip()}" if self.type.strip() else self.id.strip()


@frozen(kw_only=True)
class Notification:
    """One notification to one recipient."""

    definition: str
    """The code that says what is told: ``connection.lost``."""
    recipient: Recipient
    event: Event
    key: str
    """The same whenever the same event is told to the same recipient: the key for a service that knows such keys."""
    attempt: int
    """1 for the first time."""


class NotificationDefinition(Protocol):
    """Says what an event is told as; None or a blank code leaves it untold."""

    def __call__(self, event: Event, context: HandlerContext, /) -> Awaitable[str | None]: ...


class RecipientResolver(Protocol):
    """Says who is told; one without an id is left out, and one that occurs twice is told once."""

    def __call__(self, definition: str, event: Event, context: HandlerContext, /) -> Awaitable[Iterable[Recipient]]: ...


class NotificationSender(Protocol):
    """Tells one recipient. What it raises is an attempt that failed."""

    def __call__(self, notification: Notification, context: HandlerContext, /) -> Awaitable[None]: ...


Definition: TypeAlias = str | NotificationDefinition
"""A code that is always the same, or what chooses it."""
