"""When to ask the primary: a circuit breaker as a state machine, without clock and I/O.

====================  =============  ===========================================================================
state                 may one ask?   left when
====================  =============  ===========================================================================
closed                yes            ``failures_to_open`` calls in a row had no answer → open
open                  no             ``probe_seconds`` are over: who asks next is the probe → half-open
half-open             no: the probe  the probe is answered → closed; it is not → open, for ``probe_seconds``;
                      is on its way  it ends without telling → open, and the next one to ask is the probe
====================  =============  ===========================================================================
"""

from __future__ import annotations

from typing import Literal

from attrs import define, field

State = Literal["closed", "open", "half-open"]


@define(kw_only=True)
class Breaker:
    """Who may ask gets a permit and tells with it how the call ended.

    A permit is from one stay in one state. What a call says that began in an earlier one is not heard: it tells of the
    past.
    """

    failures_to_open: int
    probe_seconds: float
    state: State = field(default="closed", init=False)
    failures: int = field(default=0, init=False)
    """Calls in a row without an answer."""
    probe_at: float = field(default=0.0, init=False)
    """While open: when the next call may go to the primary, in seconds on the caller's monotonic clock."""
    _stay: int = field(default=0, init=False)

    def ask(self, now: float) -> int | None:
        """A permit for one call to the primary at ``now``, or None."""
        if self.state == "open" and now >= self.probe_at:
            self._enter("half-open")
            return self._stay
        return self._stay if self.state == "closed" else None

    def answered(self, permit: int) -> bool:
        """The primary answered; False when that is not heard."""
        if permit != self._stay:
            return False
        self.failures = 0
        if self.state == "half-open":
            self._enter("closed")
        return True

    def unavailable(self, permit: int, now: float) -> bool:
        """The primary did not answer; False when that is not heard."""
        if permit != self._stay:
            return False
        self.failures += 1
        if self.state == "half-open" or self.failures >= self.failures_to_open:
            self.probe_at = now + self.probe_seconds
            self._enter("open")
        return True

    def given_up(self, permit: int) -> None:
        """The call ended without telling whether the primary answers."""
        if permit == self._stay and self.state == "half-open":
            self._enter("open")

    def _enter(self, state: State) -> None:
        self.state = state
        self._stay += 1
