"""The runtime's own jobs: rows of the queue ``jobs``, and the function that does each kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from ..errors import LeaseLost, failure_text
from ..model import REVOKE_JOB, Claim
from .claims import work_off
from .core import Core, logger
from .revocation import revoke_kept
from .spans import Span
from .stand_ins import REWRAP, rewrap_stand_ins
from .subscription_endings import CANCEL_JOB, cancel_left

JobFunction: TypeAlias = Callable[[Core, Claim], Awaitable[float | None]]
"""Does a job, also one that was done in part: gives None when it is done, or the seconds until it has to go on."""

JOBS: Final[Mapping[str, JobFunction]] = {REWRAP: rewrap_stand_ins, REVOKE_JOB: revoke_kept, CANCEL_JOB: cancel_left}
RETRY_DELAY: Final = 60.0
"""Seconds until a job that failed is due again, times the number of its attempts, up to an hour."""
LONGEST_DELAY: Final = 3600.0
MAX_ATTEMPTS: Final = 200
"""After so many attempts, which take a week, a job that fails is set aside."""


async def run_due(core: Core, kind: str, limit: int) -> tuple[int, int]:
    """Claim and do up to ``limit`` due jobs of one kind; gives how many were done, if in part, and how many failed."""
    claims = await core.store.queues.claim("jobs", owner=core.owner, lease=core.worker.lease, limit=limit, kinds=[kind])
    return await work_off(core, claims, lambda claim: _do(core, claim))


async def _do(core: Core, claim: Claim) -> bool:
    assert claim.job is not None
    with Span(core, "job", kind=claim.job.kind, item=claim.id, attempt=claim.attempt) as span:
        try:
            delay = await JOBS[claim.job.kind](core, claim)
            if delay is None:
                await core.store.queues.settle(claim, "done")
            elif await core.store.queues.give_back([claim], delay=delay):  # progress is no attempt that failed
                raise LeaseLost(metadata={"queue": "jobs", "id": claim.id})
            return True
        except LeaseLost as error:
            span.failed(error)  # its new holder goes on
            return False
        except asyncio.CancelledError as error:
            span.failed(error)
            raise  # whoever works off the claims gives it back
        except Exception as error:
            span.failed(error)
            await _put_back(core, claim, error, span)
            return False


async def _put_back(core: Core, claim: Claim, error: BaseException, span: Span) -> None:
    assert claim.job is not None
    text = failure_text(error)[:500]
    try:
        if claim.attempt >= MAX_ATTEMPTS:
            await core.store.queues.settle(claim, "dead", error=text)
        else:
            delay = min(RETRY_DELAY * claim.attempt, LONGEST_DELAY)
            await core.store.queues.settle(claim, "retry", error=text, delay=delay)
            span.again(error, delay)
    except LeaseLost:
        logger.warning("the lease of job %s was lost; its new holder goes on", claim.id)
