"""What a durable handler may return besides a ``Work``: everything that commits together with its settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from .model import Event, NewJob
from .tuples import as_tuple

if TYPE_CHECKING:
    from .protocols import Work


@frozen
class Position:
    """How new the state is that an event brings. Of one handler and ``key``, what is not newer has no effect.

    It repairs what order alone cannot: a provider that sends an older event after a newer one.
    """

    key: str
    """What the state is of: ``order/1234``."""
    at: int
    """Counts up with each change: a version, a sequence number, or a time in microseconds."""


@frozen(kw_only=True)
class Handled:
    """The effect of a handler. It commits as a whole, once, or not at all."""

    work: Work[Any] | None = field(default=None, repr=False)
    events: tuple[Event, ...] = field(default=(), converter=as_tuple)
    jobs: tuple[NewJob, ...] = field(default=(), converter=as_tuple)
    position: Position | None = None
    """Where it is not newer than what was committed under its key, the rest is dropped and the event is done."""
