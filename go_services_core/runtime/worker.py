"""The worker: a loop for each kind of work that is due, and the sign of life of the process that runs them.

A loop that cannot look for work, or that is stuck, holds up no other one. What a process had claimed when it died is
taken over when its leases end: by the claim of any other process, so that no process has to notice the death.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from attrs import Factory, define

from ..endpoints import SEND_JOB
from ..errors import Conflict, FacetMissing, ServicesError, failure_code
from ..model import Observation
from ..worker_status import MOST, Backlog, KindCounts, Worked, WorkerProcess, WorkerStatus
from . import due, webhook_sends
from .core import Core, logger
from .spans import failure

if TYPE_CHECKING:
    from ..worker_facet import WorkerFacet
    from .runtime import Runtime

JITTER: Final = 0.2
"""Share by which a wait is shortened at random at most, so that processes do not look at the same moment."""
GATHER: Final = 0.02
"""Seconds that a loop which was woken waits for more: what comes in quick succession is claimed together."""
LONGEST_PAUSE: Final = 30.0
"""Seconds that a loop which cannot look for work waits at most until it tries again."""
LOOK: Final = 0.1
"""Seconds between two looks whether another thread wants the worker to stop."""
GIVING_BACK: Final = 5.0
"""Seconds that work which was cancelled has to give back what it holds."""
FORGET: Final = 86_400.0
"""Seconds that a process which died is shown."""
FOLLOWS: Final = {"inbox": ("outbox",)}
"""What a kind of work brings for others; handlers may bring anything."""


async def run(
    core: Core,
    runtime: Runtime,
    *,
    kinds: Iterable[str] | None,
    stop: asyncio.Event | threading.Event | None,
    ready: Callable[[], object] | None,
) -> Worked:
    """Work until ``stop`` is set, or until it is cancelled; see ``Runtime.work``."""
    chosen = tuple(due.KINDS if kinds is None else dict.fromkeys(kinds))
    for kind in chosen:
        due.work_of(kind)
    if core.waiting:
        raise Conflict("This runtime is working already.", hint="Wait for the other call of `work` to end.")
    worker = _Worker(core, runtime, chosen, core.clock.now())
    core.waiting.update({kind: asyncio.Event() for kind in chosen})
    try:
        return await worker.run(asyncio.Event() if stop is None else stop, ready)
    finally:
        core.waiting.clear()
        core.stopping = False


async def status(core: Core) -> WorkerStatus:
    """See ``Runtime.worker_status``."""
    facet = _facet(core)
    if facet is None:
        raise FacetMissing("The store has no facet workers: it does not know who works.")
    processes: list[WorkerProcess] = []
    after: str | None = None
    while True:
        page = await facet.list(after=after)
        processes += page.items
        after = page.next
        if after is None:
            backlog = tuple(await facet.backlog(most=MOST))
            return WorkerStatus(processes=tuple(processes), backlog=backlog, max_lag=core.worker.max_lag)


def shortened(seconds: float, byte: int) -> float:
    """A wait that is up to ``JITTER`` shorter, by a random byte."""
    return seconds * (1 - JITTER * byte / 255)


async def _set(stop: asyncio.Event | threading.Event) -> None:
    if isinstance(stop, asyncio.Event):
        await stop.wait()
    while not stop.is_set():  # noqa: ASYNC110  another thread will set it, which wakes nobody here
        await asyncio.sleep(LOOK)


def _facet(core: Core) -> WorkerFacet | None:
    return getattr(core.store, "workers", None)


@define(eq=False)
class _Worker:
    core: Core
    runtime: Runtime
    kinds: tuple[str, ...]
    started_at: datetime
    counts: dict[str, KindCounts] = Factory(dict)

    async def run(self, stop: asyncio.Event | threading.Event, ready: Callable[[], object] | None) -> Worked:
        core = self.core
        self.counts.update({kind: KindCounts() for kind in self.kinds})
        await self._beat()
        beating = asyncio.create_task(self._beats())
        loops = {asyncio.create_task(self._loop(kind)): kind for kind in self.kinds for _ in range(self._lanes(kind))}
        cut_off: tuple[str, ...] = ()
        try:
            if ready is not None:
                ready()
            stopping = asyncio.create_task(_set(stop))
            try:
                await asyncio.wait({stopping, *loops}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
            core.stopping = True
            core.wake(*self.kinds)
            _, late = await asyncio.wait(loops, timeout=core.worker.grace)
            cut_off = tuple(sorted({loops[task] for task in late}))
        finally:  # also where this is cancelled: what runs is given back at once
            core.stopping = True
            for task in loops:
                task.cancel()
            await asyncio.wait(loops, timeout=GIVING_BACK)
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await self._leave()
        for task in loops:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return Worked(
            done=sum(counts.done for counts in self.counts.values()),
            failed=sum(counts.failed for counts in self.counts.values()),
            cut_off=cut_off,
        )

    def _lanes(self, kind: str) -> int:
        settings = self.core.worker.kinds.get(kind)
        return 1 if settings is None else settings.concurrency

    async def _loop(self, kind: str) -> None:
        try:
            await self._looks(kind)
            if kind == SEND_JOB:
                await webhook_sends.rest(self.core)
        except asyncio.CancelledError:
            if kind == SEND_JOB:
                await webhook_sends.abandon(self.core)
            raise

    async def _looks(self, kind: str) -> None:
        core, work = self.core, due.work_of(kind)
        settings = core.worker.kinds.get(kind)
        batch = (settings and settings.batch) or core.worker.batch
        poll = (settings and settings.poll) or due.POLLS.get(kind, core.worker.poll)
        broken = 0
        while not core.stopping:
            core.waiting[kind].clear()  # before it looks, so that no wake is lost that comes while it works
            try:
                done, failed = await work(core, self.runtime, batch)
            except Exception as error:
                broken += 1
                self._broke(kind, error, first=broken == 1)
                await self._wait(kind, min(poll * 2**broken, max(poll, LONGEST_PAUSE)), may_be_woken=False)
                continue
            if broken:
                logger.warning("the worker does %s again", kind)
                core.observe(Observation(name="worker.recovered", at=core.clock.now(), detail={"kind": kind}))
            broken = 0
            self.counts[kind] = self.counts[kind].ran(done, failed, core.clock.now())
            if done:
                core.wake(*(self.kinds if kind == "outbox" else FOLLOWS.get(kind, ())))
            full = done > 0 and done + failed >= batch
            await self._wait(kind, 0.0 if full else poll, may_be_woken=kind not in due.POLLS)

    def _broke(self, kind: str, error: Exception, *, first: bool) -> None:
        core = self.core
        self.counts[kind] = self.counts[kind].broke(failure_code(error) or "", core.clock.now())
        if not first:
            return
        # A foreign exception may quote a secret in its text; its traceback goes through the redaction of the log.
        foreign = None if isinstance(error, ServicesError) else error
        said = error if isinstance(error, ServicesError) else type(error).__name__
        logger.warning("the worker cannot do %s and goes on trying: %s", kind, said, exc_info=foreign)
        core.observe(
            Observation(name="worker.failed", at=core.clock.now(), ok=False, detail={"kind": kind}, **failure(error))
        )

    async def _wait(self, kind: str, seconds: float, *, may_be_woken: bool = True) -> None:
        core = self.core
        if core.stopping or not seconds:
            await asyncio.sleep(0)
            return
        woken = core.waiting[kind]
        try:
            async with asyncio.timeout(
                shortened(seconds, core.clock.random(1)[0])
            ):  # in real time, as the leases of the database
                await woken.wait()
                while not (may_be_woken or core.stopping):
                    woken.clear()
                    await woken.wait()
        except TimeoutError:
            return
        if not core.stopping:
            await asyncio.sleep(GATHER)

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(self.core.worker.lease / 3)
            await self._beat()

    async def _beat(self) -> None:
        """Show that the process lives, and tell observers what waits."""
        facet = _facet(self.core)
        if facet is None:
            return
        try:
            await facet.beat(self._process(), seconds=self.core.worker.lease, forget=FORGET)
            if self.core.observers:
                for queue in await facet.backlog(most=MOST):
                    self._tell(queue)
        except Exception as error:
            logger.warning("the worker could not show that it lives: %s", failure_code(error))

    async def _leave(self) -> None:
        facet = _facet(self.core)
        if facet is None:
            return
        try:
            await facet.leave(self.core.owner)
        except Exception as error:
            logger.warning("the worker could not take its leave: %s", failure_code(error))

    def _process(self) -> WorkerProcess:
        return WorkerProcess(
            id=self.core.owner,
            host=os.uname().nodename,
            pid=os.getpid(),
            started_at=self.started_at,
            kinds=self.kinds,
            counts=dict(self.counts),
        )

    def _tell(self, queue: Backlog) -> None:
        detail = {"queue": queue.queue, "due": queue.due, "lag": queue.lag, "dead": queue.dead}
        self.core.observe(Observation(name="worker.backlog", at=self.core.clock.now(), detail=detail))
