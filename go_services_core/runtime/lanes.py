"""Messages on their way: a lane for each endpoint, so that one that is slow holds up nobody else's."""

from __future__ import annotations

import asyncio
from collections import deque

from attrs import Factory, define

from ..model import Claim


@define
class Lane:
    """What this process has for one endpoint."""

    waiting: deque[Claim] = Factory(deque)
    running: int = 0


@define(eq=False)
class Sends:
    """What this process has claimed of messages, and how those ended that nobody has counted yet."""

    lanes: dict[str, Lane] = Factory(dict)
    held: dict[str, Claim] = Factory(dict)
    """Claims whose leases are extended: of messages that wait in a lane or are being sent."""
    tasks: set[asyncio.Task[None]] = Factory(set)
    keeping: asyncio.Task[None] | None = None
    done: int = 0
    failed: int = 0

    def counted(self) -> tuple[int, int]:
        """How many were sent and how many failed since this was asked."""
        ended = (self.done, self.failed)
        self.done = self.failed = 0
        return ended
