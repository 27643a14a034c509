"""Observations of parts that observers must not hold up: told later, from a queue."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from attrs import evolve

from ..model import Observation
from ..redaction import mask_data

logger = logging.getLogger("go_services.runtime")

LIMIT = 1000
"""Observations that wait at most; beyond it the oldest is dropped."""


class Observations:
    """``PluginEnv.observe``: keeps what it is called with until the observers can be told, and returns at once.

    It may be called from any thread, before there are observers, and after the end; it never raises. A task of the
    loop that made it tells the observers, one observation in each turn of the loop, in the order of the calls.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: deque[Observation] = deque()
        self._closed = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tell: Callable[[Observation], None] | None = None
        self.dropped = 0
        """Observations that nobody was told, because too many waited or because they came after the end."""

    def __call__(self, observation: Observation) -> None:
        with self._lock:
            if self._closed:
                self.dropped += 1
                return
            if len(self._waiting) == self._limit:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(observation)
            if len(self._waiting) == 1:
                with suppress(RuntimeError):  # the loop was closed, and the runtime was not
                    self._loop.call_soon_threadsafe(self._wake.set)

    def start(self, tell: Callable[[Observation], None]) -> None:
        """Begin to pass observations to ``tell``, which must not raise."""
        self._tell = tell
        self._task = asyncio.create_task(self._run(tell))

    async def aclose(self) -> None:
        """Pass on what still waits, then end; idempotent."""
        with self._lock:
            first, self._closed = not self._closed, True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        while self._tell is not None and (observation := self._next()) is not None:
            self._tell(_masked(observation))
        if first and self.dropped:
            logger.warning("%d observations were dropped: they came faster than observers took them", self.dropped)

    async def _run(self, tell: Callable[[Observation], None]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (observation := self._next()) is not None:
                tell(_masked(observation))
                await asyncio.sleep(0)

    def _next(self) -> Observation | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None


def _masked(observation: Observation) -> Observation:
    """It came from a plugin, whose detail may quote what somebody else said."""
    return evolve(observation, detail=mask_data(observation.detail)) if observation.detail else observation
