"""What a durable handler may return besides a ``Work``: everything that commits together with its settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, field, frozen

from .errors import BadInput
from .model import Claim, Event, NewJob, Outcome
from .tuples import as_tuple

if TYPE_CHECKING:
    from .protocols import Work


_LARGEST: Final = 2**63 - 1


def _key(record: object, attribute: Any, value: str) -> None:
    if not value.strip():
        raise BadInput("The key of a position may not be blank.", field="position.key")


def _at(record: object, attribute: Any, value: int) -> None:
    if type(value) is not int or not -_LARGEST <= value <= _LARGEST:
        raise BadInput(f"A position is a whole number of 64 bits, not {value!r}.", field="position.at")


@frozen
class Position:
    """How new the state is that an event brings. Of one handler and ``key``, what is not newer has no effect.

    It repairs what order alone cannot: a provider that sends an older event after a newer one.
    """

    key: str = field(validator=_key)
    """What the state is of: ``order/1234``."""
    at: int = field(validator=_at)
    """Counts up with each change: a version, a sequence number, or a time in microseconds."""


@frozen(kw_only=True)
class Handled:
    """The effect of a handler. It commits as a whole, once, or not at all."""

    work: Work[Any] | None = field(default=None, repr=False)
    events: tuple[Event, ...] = field(default=(), converter=as_tuple)
    jobs: tuple[NewJob, ...] = field(default=(), converter=as_tuple)
    position: Position | None = None
    """Where it is not newer than what was committed under its key, the rest is dropped and the event is done."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit besides the settlement."""
        return self.work is None and not self.events and not self.jobs and self.position is None


def check_effect(claim: Claim, outcome: Outcome, effect: Handled) -> None:
    """Refuse an effect that the settlement of ``claim`` cannot commit.

    Raises:
        BadInput: the outcome is not ``done``, or a position is not that of a handler.
    """
    if outcome != "done" and not (evolve(effect, events=()).empty and (outcome == "dead" or not effect.events)):
        raise BadInput("Only 'done' commits an effect, and 'dead' events.", field="outcome")
    if effect.position is not None and claim.handler is None:
        raise BadInput(f"Only handlers of events have positions, not the {claim.queue}.", field="position")
