"""Working off what was claimed from a queue, several at once, while the leases of all that is held are extended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ..errors import StoreError
from ..model import Claim
from .core import Core, logger

Handle = Callable[[Claim], Awaitable[bool]]
"""Does what one claim is about and settles it; gives whether it was done. It raises nothing but a cancellation."""
PATIENCE: Final = 1.0
"""Seconds after which what is done already is settled, while something else of the same batch takes longer."""

GRACE: Final = 10.0
"""Seconds that a task has to end after it was cancelled."""


def _no_limits(_: Claim) -> Sequence[asyncio.Semaphore]:
    return ()


class Batch:
    """Claims that one process holds and works off.

    Args:
        core: the runtime's parts.
        claims: what was claimed.
        handle: is called for each.
        limits: semaphores that a claim needs besides one of ``[worker] concurrency``.
        flush: called once in a while and in the end, for what is settled in bulk.
        leave: settles a claim whose task does not end although it was cancelled.
    """

    def __init__(
        self,
        core: Core,
        claims: Sequence[Claim],
        handle: Handle,
        *,
        limits: Callable[[Claim], Sequence[asyncio.Semaphore]] = _no_limits,
        flush: Callable[[], Awaitable[None]] | None = None,
        leave: Callable[[Claim], Awaitable[None]] | None = None,
    ) -> None:
        self._core = core
        self._handle = handle
        self._limits = limits
        self._flush = flush
        self._leave = leave
        self._held = {claim.id: claim for claim in claims}
        self._begun: set[str] = set()
        self.stopping = False
        self.ends: dict[str, float] = {}
        """Until when, by the loop's clock, something must have ended that was told to; then it is left behind."""
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        most = core.worker.concurrency
        self._free = core.limits.setdefault(("all", most), asyncio.Semaphore(most))

    async def work_off(self) -> tuple[int, int]:
        """Handle them; gives how many were handled and how many failed.

        When it is cancelled, what runs is cancelled as well, and what was not begun is given back at once.
        """
        if not self._held:
            return 0, 0
        self._tasks = {id: asyncio.create_task(self._one(claim)) for id, claim in self._held.items()}
        keeping = asyncio.create_task(self._keep())
        waiting = set(self._tasks.values())
        try:
            while waiting:
                _, waiting = await asyncio.wait(waiting, timeout=PATIENCE)
                waiting -= await self._left_behind()
                if self._flush is not None:
                    await self._flush()
        except asyncio.CancelledError:
            await self._stop()
            raise
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await self.give_back([claim for id, claim in self._held.items() if id not in self._begun])
        done = sum(task.done() and not task.cancelled() and task.result() for task in self._tasks.values())
        return done, len(self._begun) - done

    def holds(self, claim: Claim) -> bool:
        """Whether the claim is still this process's to settle."""
        return claim.id in self._held

    async def _one(self, claim: Claim) -> bool:
        taken: list[asyncio.Semaphore] = []
        try:
            for limit in (*self._limits(claim), self._free):
                await limit.acquire()
                taken.append(limit)
            if self._core.stopping:
                return False
            self._begun.add(claim.id)
            return await self._handle(claim)
        finally:
            for limit in taken:
                limit.release()

    def settled(self, claims: Sequence[Claim]) -> None:
        """Stop extending the leases of claims that ended."""
        for claim in claims:
            self._held.pop(claim.id, None)

    async def _left_behind(self) -> set[asyncio.Task[bool]]:
        """Go on without the tasks that do not end when they are cancelled."""
        now = asyncio.get_running_loop().time()
        found = set()
        for id, end in list(self.ends.items()):
            task = self._tasks[id]
            claim = self._held.get(id)
            if end <= now and not task.done() and claim is not None and self._leave is not None:
                self.settled([claim])
                self._core.tasks.add(task)
                task.add_done_callback(self._core.tasks.discard)
                found.add(task)
                await self._leave(claim)
        return found

    async def _stop(self) -> None:
        """End what runs, and give back what does not, for whoever comes next."""
        self.stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.wait(self._tasks.values(), timeout=GRACE)
        if self._flush is not None:
            await self._flush()
        await self.give_back([claim for id, claim in self._held.items() if id not in self._begun])

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Let others have at once what was not done, as if it had not been claimed."""
        if not claims:
            return
        self.settled(claims)
        try:
            await self._core.store.queues.give_back(claims)
        except StoreError as error:
            logger.warning("claims were not given back and wait for the end of their leases: %s", error)

    async def _keep(self) -> None:
        """Extend the leases of what is held, and let go of what is lost."""
        lease = self._core.worker.lease
        while True:
            await asyncio.sleep(lease / 3)  # in real time, by which the database ends leases
            try:
                lost = await self._core.store.queues.heartbeat(list(self._held.values()), lease=lease)
            except StoreError as error:
                logger.warning("leases could not be extended: %s", error)
                continue
            for id in lost:
                if self._held.pop(id, None) is not None:
                    logger.warning("the lease of %s was lost; its new holder goes on", id)
                    self._tasks[id].cancel()


async def work_off(core: Core, claims: Sequence[Claim], handle: Handle) -> tuple[int, int]:
    """Handle claims that need nothing but their turn; gives how many were handled and how many failed."""
    batch: Batch

    async def settling(claim: Claim) -> bool:
        try:
            return await handle(claim)
        finally:
            batch.settled([claim])

    batch = Batch(core, claims, settling)
    return await batch.work_off()
