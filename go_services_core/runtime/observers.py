"""Telling observers, so that none can hurt a call: not by raising, by being slow, or by never returning."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ..http import check_header

if TYPE_CHECKING:
    from ..model import Observation
    from ..protocols import Observer
    from ..tracing import Trace

logger = logging.getLogger("go_services.runtime")

LIMIT: Final = 1000
"""Observations that wait for one observer at most; what comes beyond it is dropped and counted."""
TOGETHER: Final = 0.01
"""Seconds after which a thread is woken for what came since: to wake it for each observation costs a call more than all
else that is done for observers."""
MANY: Final = LIMIT // 4
"""So many observations that wait are not left waiting for the end of that time."""
SLOW: Final = 0.1
"""Seconds that an inline observer may take."""
PATIENCE: Final = 3
"""So often it may take longer; then it is told from a thread."""
CLOSING: Final = 2.0
"""Seconds that observers have at the end for what still waits."""
QUIET: Final = 60.0
"""Seconds between two log records about one observer."""


class _Complaints:
    """Says in the log what is wrong with one observer: at once, then not again for a while."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._again = 0.0
        self._unsaid = 0

    def __call__(self, message: str, *, exc_info: bool = False) -> None:
        now = time.monotonic()
        if now < self._again:
            self._unsaid += 1
            return
        more = f"; {self._unsaid} more like it were not logged" if self._unsaid else ""
        self._again, self._unsaid = now + QUIET, 0
        logger.error("the observer %s %s%s", self.name, message, more, exc_info=exc_info)


class _Inline:
    """An observer that is told in the task that is observed."""

    def __init__(self, name: str, observer: Observer) -> None:
        self.observer = observer
        self.complain = _Complaints(name)
        self.trace: Callable[[int], Trace | None] | None = getattr(observer, "trace", None)
        self._slow = 0

    def tell(self, observation: Observation) -> bool:
        """Whether it may be told so again."""
        began = time.perf_counter()
        try:
            self.observer(observation)
        except Exception:
            self.complain("failed", exc_info=True)
        if time.perf_counter() - began <= SLOW:
            return True
        self._slow += 1
        return self._slow < PATIENCE


class _Apart:
    """An observer that is told from a daemon thread of its own, which begins with the first observation."""

    def __init__(self, observer: Observer, complain: _Complaints) -> None:
        self.observer = observer
        self.complain = complain
        self.dropped = 0
        self._waiting: deque[Observation | Callable[[], object]] = deque()
        self._is_due = False
        """Whether the thread will be woken anyway."""
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, observation: Observation) -> None:
        waiting = len(self._waiting)
        if waiting >= LIMIT:
            self.dropped += 1
            self.complain("is too slow: observations are dropped")
            return
        self._waiting.append(observation)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(TOGETHER, self._wake)
        if waiting == MANY:
            self._awake.set()
        if self._thread is None:
            name = f"go_services observer {self.complain.name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    async def aclose(self) -> None:
        """Let it take what waits, for a bounded time; its thread is left behind where it does not return."""
        if self._thread is None:
            return
        self._thread = None
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._waiting.append(lambda: loop.call_soon_threadsafe(ended.set))
        self._awake.set()
        try:
            async with asyncio.timeout(CLOSING):
                await ended.wait()
        except TimeoutError:
            logger.warning(
                "the observer %s did not end: %d observations are lost", self.complain.name, len(self._waiting) - 1
            )
        if self.dropped:
            logger.warning("%d observations were dropped: the observer %s is slow", self.dropped, self.complain.name)

    def _wake(self) -> None:
        self._is_due = False
        self._awake.set()

    def _run(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()  # before it looks: what comes from now on wakes it again
            while self._waiting:
                told = self._waiting.popleft()
                if callable(told):
                    with suppress(RuntimeError):  # the loop did not wait any longer and is closed
                        told()
                    return
                try:
                    self.observer(told)
                except Exception:
                    self.complain("failed", exc_info=True)


class Observers:
    """Everything that watches this runtime. Its methods belong to the loop's thread."""

    def __init__(self) -> None:
        self.tracers: tuple[_Inline, ...] = ()
        self._inline: tuple[_Inline, ...] = ()
        self._apart: tuple[_Apart, ...] = ()
        self._any = False

    def __bool__(self) -> bool:
        return self._any

    def add(self, name: str, observer: Observer, *, inline: bool) -> None:
        """Tell ``observer`` from now on; ``name`` stands for it in the log."""
        if inline:
            added = _Inline(name, observer)
            self._inline += (added,)
            if added.trace is not None:
                self.tracers += (added,)
        else:
            self._apart += (_Apart(observer, _Complaints(name)),)
        self._any = True

    def tell(self, observation: Observation) -> None:
        """Tell every observer; nothing is raised."""
        for one in self._apart:
            one.tell(observation)
        if self._inline:
            self._tell(self._inline, observation)

    def tell_tracers(self, observation: Observation) -> None:
        """Tell the tracers alone: what only they can use costs nothing elsewhere."""
        self._tell(self.tracers, observation)

    def _tell(self, inline: tuple[_Inline, ...], observation: Observation) -> None:
        for one in inline:
            if not one.tell(observation):
                self._inline = tuple(other for other in self._inline if other is not one)
                self.tracers = tuple(other for other in self.tracers if other is not one)
                self._apart += (_Apart(one.observer, one.complain),)
                logger.warning(
                    "the observer %s took longer than %g s for %d times and is told from a thread from now on",
                    one.complain.name, SLOW, PATIENCE,
                )  # fmt: skip

    def traces(self, span: int) -> list[Trace]:
        """What distributed traces know of the work of that number, of which they were told the start."""
        found = []
        for one in self.tracers:
            assert one.trace is not None
            try:
                if (trace := one.trace(span)) is not None:
                    for name, value in trace.headers:
                        check_header(name, value)
                    found.append(trace)
            except Exception:
                one.complain("failed", exc_info=True)
        return found

    async def aclose(self) -> None:
        """Let each take what still waits, all at once and for a bounded time; then nobody is told any more."""
        apart, self._apart, self._inline, self.tracers, self._any = self._apart, (), (), (), False
        await asyncio.gather(*(one.aclose() for one in apart))
