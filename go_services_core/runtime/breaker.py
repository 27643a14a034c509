"""Circuit breakers: a host that keeps failing is left alone, until one request finds that it answers again."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import Factory, define

from ..call_specs import BreakerPolicy

_MOST: Final = 1024
"""Hosts that are watched at once; beyond, the one that was watched longest is forgotten."""

Change: TypeAlias = Literal["open", "closed"]


@define
class Breaker:
    """What a process knows of one host of a provider that failed lately. Times are by the monotonic clock."""

    policy: BreakerPolicy
    in_a_row: int = 0
    since: float = 0.0
    """When the window began that these count:"""
    attempts: int = 0
    failures: int = 0
    opened_at: float | None = None
    """None while it is closed."""
    probing: bool = False
    """Whether the one request is out that tries the host."""

    def keeps_away(self, now: float) -> float | None:
        """Seconds to keep away, or None."""
        if self.opened_at is None:
            return None
        left = self.opened_at + self.policy.pause - now
        # While the probe is out nobody knows how long; whoever is told a moment does not give up for long.
        return max(left, 1.0) if left > 0 or self.probing else None

    def admit(self, now: float) -> tuple[float | None, bool]:
        """Seconds to keep away, or None, and whether the request is the probe.

        The probe must end in :meth:`succeeded`, :meth:`failed` or :meth:`abandoned`.
        """
        wait = self.keeps_away(now)
        if wait is not None or self.opened_at is None:
            return wait, False
        self.probing = True
        return None, True

    def succeeded(self, now: float, *, probe: bool) -> Change | None:
        """The host answered. What was sent before the circuit opened proves nothing."""
        if self.opened_at is not None:
            if not probe:
                return None
            self.opened_at, self.probing = None, False
            self.in_a_row = self.attempts = self.failures = 0
            return "closed"
        self.in_a_row = 0
        self._count(now)
        return None

    def failed(self, now: float, *, probe: bool) -> Change | None:
        """The host did not answer, or says that it fails."""
        if self.opened_at is not None:
            if probe:
                self.opened_at, self.probing = now, False
            return None
        self.in_a_row += 1
        self._count(now)
        self.failures += 1
        often = self.attempts >= self.policy.least and self.failures >= self.policy.share * self.attempts
        if self.in_a_row < self.policy.failures and not often:
            return None
        self.opened_at = now
        return "open"

    def abandoned(self) -> None:
        """The probe ended before it could tell anything; the next request is one."""
        self.probing = False

    def is_over(self, now: float) -> bool:
        """Whether a success now leaves nothing to remember."""
        return self.opened_at is None and now - self.since >= self.policy.window

    def _count(self, now: float) -> None:
        if now - self.since >= self.policy.window:
            self.since, self.attempts, self.failures = now, 0, 0
        self.attempts += 1


@define
class Breakers:
    """The breakers of a process: none for a host that did not fail lately."""

    watched: dict[tuple[str, str], Breaker] = Factory(dict)
    """By provider and origin."""

    def watch(self, key: tuple[str, str], policy: BreakerPolicy, now: float) -> Breaker:
        """The breaker of a host that failed."""
        found = self.watched.get(key)
        if found is None:
            if len(self.watched) >= _MOST:
                del self.watched[next(iter(self.watched))]
            found = self.watched[key] = Breaker(policy, since=now)
        return found

    def forget(self, key: tuple[str, str]) -> None:
        """The host is well again."""
        self.watched.pop(key, None)


def origin_of(url: str) -> str:
    """Scheme, host and port of a final URL."""
    scheme, _, rest = url.partition("://")
    for end in "/?#":
        rest = rest.partition(end)[0]
    return f"{scheme}://{rest}"
