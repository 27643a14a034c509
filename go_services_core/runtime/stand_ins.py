"""What was sealed while the primary secret backend did not answer: known before it exists, wrapped anew later."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ..clock import Clock, uuid7
from ..model import Claim, KeyRef, NewJob
from .core import Core
from .rotation import rotate

if TYPE_CHECKING:
    from ..protocols import Store

REWRAP: Final = "secrets.rewrap"
"""Kind of the job that brings what stand-ins wrapped under the primary key."""
DATA_KEY_LIFE: Final = 300.0
"""Seconds that a process seals with a data key (protocols: envelope v2)."""
MARGIN: Final = 30.0
"""Seconds that the clocks of two processes may differ."""


class StandIns:
    """Keeps the job before anything is sealed under a stand-in's data key, so that no crash can lose it.

    One job stands for the data keys that this process gets from stand-ins within five minutes; what is sealed with them
    exists five minutes later at last.
    """

    def __init__(self, store: Store, clock: Clock, owner: str) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._number = 0
        self._until = clock.monotonic()

    async def __call__(self, key: KeyRef) -> None:
        """A stand-in wrapped a data key under ``key``; nothing is sealed with it before this returns.

        Raises:
            StoreError: the job could not be kept.
        """
        now = self._clock.monotonic()
        if now < self._until:
            return
        number = self._number + 1
        job = NewJob(
            id=uuid7(self._clock),
            kind=REWRAP,
            payload={"backend": key.backend, "key_id": key.key_id, "key_version": key.key_version},
            idempotency_key=f"{self._owner}:{number}",
            requested_by="runtime",
            created_at=self._clock.now(),
        )
        await self._store.queues.enqueue(job)  # calls at the same time keep one job
        self._number, self._until = number, now + DATA_KEY_LIFE


async def rewrap_stand_ins(core: Core, claim: Claim) -> float | None:
    """Wrap what is under another backend's keys by the primary one, once more when nothing can be added to it.

    Raises:
        BackendUnavailable: the primary backend does not answer yet.
        LeaseLost: another process does this job.
    """
    assert claim.job is not None

    async def after(done: int, total: int) -> None:
        await core.store.queues.checkpoint(claim, f"{done} of {total} rows", lease=core.worker.lease)

    report = await rotate(
        core, "rewrap", after=after, wanted=lambda key, primary: key.backend not in ("", primary.backend)
    )
    final = claim.job.created_at + timedelta(seconds=2 * DATA_KEY_LIFE + MARGIN)
    left = (final - core.clock.now()).total_seconds()
    if left > 0:
        return left
    return DATA_KEY_LIFE if report.remaining else None
