"""What is known of the processes that work on the queues, and of what waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import evolve, field, frozen

from .model import QueueName

MOST: Final = 10_000
"""Rows that are counted of each queue; a higher number is told as this one."""


@frozen(kw_only=True)
class KindCounts:
    """What one process did of one kind of work since it started."""

    done: int = 0
    failed: int = 0
    """Items that failed; those that will be tried again too."""
    last_success: datetime | None = None
    """When a run ended that could look for work, also where there was none."""
    last_failure: datetime | None = None
    """When a run ended that could not, such as one without the database."""
    error: str = ""
    """How that run ended: the error's code, or the name of a foreign exception."""

    def ran(self, done: int, failed: int, at: datetime) -> KindCounts:
        """After a run that did so much."""
        return evolve(self, done=self.done + done, failed=self.failed + failed, last_success=at)

    def broke(self, error: str, at: datetime) -> KindCounts:
        """After a run that could not look for work."""
        return evolve(self, last_failure=at, error=error)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times are ISO 8601."""
        times = {"last_success": self.last_success, "last_failure": self.last_failure}
        told = {name: None if at is None else at.isoformat() for name, at in times.items()}
        return {"done": self.done, "failed": self.failed, **told, "error": self.error}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KindCounts:
        """What :meth:`as_dict` gave."""
        times = {name: values[name] for name in ("last_success", "last_failure")}
        read = {name: None if text is None else datetime.fromisoformat(text) for name, text in times.items()}
        return cls(done=values["done"], failed=values["failed"], error=values["error"], **read)


@frozen(kw_only=True)
class WorkerProcess:
    """A process that works on the queues."""

    id: str
    """The owner of its claims."""
    host: str
    pid: int
    started_at: datetime
    kinds: tuple[str, ...]
    """The kinds of work that it does."""
    counts: Mapping[str, KindCounts] = field(factory=dict)
    """By kind, as of its last beat."""
    age: float = 0.0
    """Seconds since its last beat."""
    alive: bool = True
    """Whether its next beat is not overdue."""


@frozen(kw_only=True)
class Backlog:
    """What waits in one queue. Counts end at :data:`MOST`."""

    queue: QueueName
    due: int
    """Items that could be claimed now."""
    lag: float
    """Seconds for which the oldest of them could have been claimed already; 0 where nothing is due."""
    dead: int
    """Items that were given up."""


@frozen(kw_only=True)
class WorkerStatus:
    """The workers of one database and what waits for them."""

    processes: tuple[WorkerProcess, ...]
    backlog: tuple[Backlog, ...]
    max_lag: float
    """``[worker] max_lag``: seconds that due work may wait."""

    @property
    def late(self) -> tuple[Backlog, ...]:
        """The queues whose oldest due item waits for longer than that."""
        return tuple(queue for queue in self.backlog if queue.lag > self.max_lag)

    @property
    def alive(self) -> tuple[WorkerProcess, ...]:
        """The processes that are alive."""
        return tuple(process for process in self.processes if process.alive)

    @property
    def kinds(self) -> Mapping[str, KindCounts]:
        """By kind what the processes did, together; times and error are the latest ones."""
        found: dict[str, KindCounts] = {}
        for process in self.processes:
            for kind, counts in process.counts.items():
                found[kind] = _together(found[kind], counts) if kind in found else counts
        return found


def _together(one: KindCounts, other: KindCounts) -> KindCounts:
    later = max(one, other, key=lambda counts: _moment(counts.last_failure))
    return KindCounts(
        done=one.done + other.done,
        failed=one.failed + other.failed,
        last_success=max(one.last_success, other.last_success, key=_moment),
        last_failure=later.last_failure,
        error=later.error,
    )


def _moment(at: datetime | None) -> float:
    return at.timestamp() if at is not None else 0.0


@frozen(kw_only=True)
class Worked:
    """How ``Runtime.work`` ended."""

    done: int = 0
    failed: int = 0
    cut_off: tuple[str, ...] = ()
    """Kinds with work that did not end within the grace: it was cancelled and given back."""
