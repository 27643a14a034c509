"""What happened to the primary and the fallback: one observation for each switch, counts, and the last reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

from attrs import frozen

from go_services_core.clock import Clock
from go_services_core.errors import SecretError
from go_services_core.model import Observation

NAME: Final = "secrets.failover"
Outcome = Literal["primary_failed", "fallback_failed", "fallback_succeeded", "primary_back"]


@frozen
class Reason:
    """Why a call failed: names and codes of ours, nothing that a backend said."""

    error: str
    """Name of the error's class."""
    code: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.error} ({self.code}) at {self.at:%Y-%m-%d %H:%M:%S} UTC"


class Diagnostics:
    """Counts calls and tells observers when another member serves than before."""

    def __init__(
        self, *, clock: Clock, observe: Callable[[Observation], None], policy: str, primary: str, fallback: str | None
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._about = {"policy": policy, "primary": primary, "fallback": fallback}
        self._now: Outcome = "primary_back"
        self.counts: Counter[Outcome] = Counter()
        """Calls by outcome; ``primary_back`` counts returns."""
        self.reasons: dict[Outcome, Reason] = {}
        """The last reason of each failure."""
        self.since: datetime | None = None
        """Since when the primary does not answer; None while it does."""

    def primary_failed(self, operation: str, error: SecretError, *, heard: bool) -> None:
        """A call got no answer. ``heard`` is False for a call from before a change that has been seen already."""
        self._count("primary_failed", error)
        if heard and self.since is None:
            self.since = self._clock.now()
            self._switch("primary_failed", operation)

    def primary_answered(self, operation: str) -> None:
        """A call was answered."""
        if self.since is not None:
            self.since = None
            self.counts["primary_back"] += 1
            self._switch("primary_back", operation)

    def fallback_succeeded(self, operation: str) -> None:
        """The fallback stood in."""
        self.counts["fallback_succeeded"] += 1
        if self.since is not None and self._now != "fallback_succeeded":
            self._switch("fallback_succeeded", operation)

    def fallback_failed(self, operation: str, error: SecretError) -> None:
        """The fallback should have stood in, and could not."""
        self._count("fallback_failed", error)
        if self.since is not None and self._now != "fallback_failed":
            self._switch("fallback_failed", operation)

    def _count(self, outcome: Outcome, error: SecretError) -> None:
        self.counts[outcome] += 1
        self.reasons[outcome] = Reason(type(error).__name__, error.code, self._clock.now())

    def _switch(self, outcome: Outcome, operation: str) -> None:
        self._now = outcome
        failed = outcome in ("primary_failed", "fallback_failed")
        reason = self.reasons["fallback_failed" if outcome == "fallback_failed" else "primary_failed"]
        self._observe(
            Observation(
                name=NAME,
                at=self._clock.now(),
                ok=not failed,
                error_code=reason.code if failed else None,
                detail={
                    "outcome": outcome,
                    "operation": operation,
                    **self._about,
                    "reason": reason.error,
                    "counts": dict(self.counts),
                },
            )
        )
