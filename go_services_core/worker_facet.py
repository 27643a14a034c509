"""What a store must do for workers: show who is alive, and what waits. The docstrings are the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .model import Page
from .worker_status import Backlog, WorkerProcess


class WorkerFacet(Protocol):
    """The processes that work on the queues, and how much waits for them."""

    async def beat(self, worker: WorkerProcess, *, seconds: float, forget: float) -> None:
        """Keep the process as alive for ``seconds`` more by the database's clock, with its counts as they are now.

        Processes that ended without :meth:`leave` stay as not alive for ``forget`` seconds after that; then a beat of
        any process removes them.
        """
        ...

    async def leave(self, worker_id: str) -> bool:
        """Forget a process that ends; False when it is not there."""
        ...

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[WorkerProcess]:
        """Processes by id, a page at a time; ``age`` and ``alive`` go by the database's clock."""
        ...

    async def backlog(self, *, most: int) -> Sequence[Backlog]:
        """What waits in inbox, outbox and jobs, in this order. It counts up to ``most`` rows of each and no further."""
        ...
