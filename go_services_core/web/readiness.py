"""Whether the runtime can work, asked of it now and then however often probes ask."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..model import Health
    from ..runtime.runtime import Runtime

SECONDS: Final = 2.0
"""How long an answer of the health checks is used: they ask the database and the secret backend."""


class Readiness:
    """The health checks' newest answers; of several that ask at once one waits for the checks, the others for it."""

    def __init__(self) -> None:
        self._until = float("-inf")
        self._answers: list[tuple[str, Health]] = []
        self._asking: asyncio.Task[list[tuple[str, Health]]] | None = None

    async def ask(self, runtime: Runtime) -> list[tuple[str, Health]]:
        """Every check's answer, at most ``SECONDS`` old."""
        if time.monotonic() < self._until:
            return self._answers
        asking = self._asking
        if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():  # it may have forked
            asking = self._asking = asyncio.create_task(runtime.health())
        self._answers = await asyncio.shield(asking)
        self._until = time.monotonic() + SECONDS
        return self._answers
