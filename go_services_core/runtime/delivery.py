"""Events reach their handlers, each once in effect."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ..errors import (
    CannotOpen,
    HandlerCrashed,
    HandlerTimeout,
    LeaseLost,
    NotFound,
    RetryLater,
    StoreError,
    Unrecoverable,
    failure_text,
)
from ..handled import Handled
from ..http import InboundRequest
from ..model import Claim, Event, Outcome
from . import bindings
from .claims import GRACE, Batch
from .core import Core, logger
from .handlers import keep_seen, limits_of, schedule_of, seconds_of
from .payload import decode_request
from .spans import Span

if TYPE_CHECKING:
    from .runtime import Runtime

TEXT: Final = 500
"""Letters of an error that a row keeps."""


@frozen
class Context:
    """What a durable handler may use."""

    runtime: Runtime
    _core: Core
    _event: Event

    async def request(self) -> InboundRequest:
        """The webhook request behind the event.

        Raises:
            NotFound: the event does not come from a webhook, or its delivery is gone.
            Unrecoverable: the delivery cannot be opened: it was changed, moved, or sealed under another key.
        """
        event = self._event
        is_delivery = event.name.startswith("webhook.") and event.payload.get("delivery") == event.id
        row = await self._core.store.queues.delivery(event.id) if is_delivery else None
        if row is None:
            raise NotFound(f"The event {event.name} has no webhook request behind it.")
        binding = bindings.inbox(row.id, row.provider_id, row.scope)
        try:
            return decode_request(await self._core.sealer.open(row.sealed, binding))
        except CannotOpen as error:
            raise Unrecoverable(f"The delivery {row.id} cannot be opened: {error.message}") from error


async def run_due(core: Core, runtime: Runtime, limit: int) -> tuple[int, int]:
    """Claim up to ``limit`` events and run their handlers; gives how many were handled and how many failed."""
    queues = core.store.queues
    await keep_seen(core)
    names = sorted(core.handlers)
    claims = await queues.claim("outbox", owner=core.owner, lease=core.worker.lease, limit=limit, handlers=names)
    calm, suspects = _apart(claims)
    if len(suspects) > 1:
        await queues.give_back(suspects[1:])
    handled, failed = await Deliveries(core, runtime, calm).work_off()
    if suspects:
        more, worse = await Deliveries(core, runtime, suspects[:1]).work_off()
        handled, failed = handled + more, failed + worse
    return handled, failed


def _apart(claims: Sequence[Claim]) -> tuple[list[Claim], list[Claim]]:
    """Apart from the others, what may be what ended the process that had it: each is run alone, or the attempts of all
    would count that one of them costs."""
    return [claim for claim in claims if not claim.crashes], [claim for claim in claims if claim.crashes]


class Deliveries:
    """A batch of claimed events, each for one handler."""

    def __init__(self, core: Core, runtime: Runtime, claims: Sequence[Claim]) -> None:
        self._core = core
        self._runtime = runtime
        self._done: list[Claim] = []
        self._lost = 0
        self._batch = Batch(
            core, claims, self._handle, limits=self._limits, flush=self._settle_done, leave=self._left_behind
        )

    async def work_off(self) -> tuple[int, int]:
        """Run the handlers; gives how many events were handled and how many were not."""
        handled, failed = await self._batch.work_off()
        return handled - self._lost, failed + self._lost

    def _limits(self, claim: Claim) -> list[asyncio.Semaphore]:
        assert claim.event is not None
        assert claim.handler is not None
        return limits_of(self._core, claim.handler, claim.event)

    async def _handle(self, claim: Claim) -> bool:
        event, name = claim.event, claim.handler
        assert event is not None
        assert name is not None
        with Span(
            self._core,
            "outbox",
            provider_id=event.provider_id,
            connection_id=event.connection_id,
            scope=event.scope,
            event=event.name,
            handler=name,
            item=claim.id,
            attempt=claim.attempt,
        ) as span:
            try:
                effect = await self._run(claim, event, name)
                if not self._batch.holds(claim):
                    raise LeaseLost(metadata={"queue": "outbox", "id": claim.id})
                if effect.empty:
                    self._done.append(claim)
                    return True
                committed = await self._core.store.queues.settle(
                    claim, "done", events=effect.events, jobs=effect.jobs, position=effect.position, work=effect.work
                )
                if not committed:
                    span.detail["superseded"] = True
                self._batch.settled([claim])
                return True
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # also SystemExit: a handler does not end the process
                return await self._failed(claim, error, span)

    async def _run(self, claim: Claim, event: Event, name: str) -> Handled:
        """Call the handler within its time, and the store's own within none."""
        one = self._core.handlers[name]
        most = schedule_of(self._core, one, event).attempts
        if claim.crashes and claim.attempt > most:
            raise HandlerCrashed(hint=f"It was tried {most} times.")
        seconds = seconds_of(self._core, one, event)
        limit = asyncio.timeout(seconds)
        self._batch.ends[claim.id] = asyncio.get_running_loop().time() + seconds + GRACE
        try:
            async with limit:
                handled = await one.handler(event, Context(self._runtime, self._core, event))
        except TimeoutError:
            if not limit.expired():
                raise
            raise HandlerTimeout(f"The handler did not end within {seconds:g} seconds.") from None
        finally:
            self._batch.ends.pop(claim.id, None)
        return handled if isinstance(handled, Handled) else Handled(work=handled)

    async def _failed(self, claim: Claim, error: BaseException, span: Span) -> bool:
        """Settle what did not succeed; gives False."""
        cancelled = isinstance(error, asyncio.CancelledError)
        if not self._batch.holds(claim):
            span.failed(LeaseLost(metadata={"queue": "outbox", "id": claim.id}))  # its new holder goes on
            return False
        span.failed(error)
        if isinstance(error, LeaseLost):
            self._batch.settled([claim])
            return False
        if cancelled and self._batch.stopping:
            await self._batch.give_back([claim])
            raise asyncio.CancelledError
        outcome, delay = self._verdict(claim, error)
        await self._put_back(claim, outcome, delay, error)
        if outcome == "retry":
            span.again(error, delay)
        return False

    def _verdict(self, claim: Claim, error: BaseException) -> tuple[Outcome, float]:
        assert claim.event is not None
        assert claim.handler is not None
        if isinstance(error, (Unrecoverable, HandlerCrashed)):
            return "dead", 0.0
        schedule = schedule_of(self._core, self._core.handlers[claim.handler], claim.event)
        delay = schedule.delay(claim.attempt, lambda: int.from_bytes(self._core.clock.random(4), "big") / 2**32)
        if delay is None:
            return "dead", 0.0
        return "retry", error.after if isinstance(error, RetryLater) else delay

    async def _put_back(self, claim: Claim, outcome: Outcome, delay: float, error: BaseException) -> None:
        text = failure_text(error)[:TEXT]
        try:
            await self._core.store.queues.settle(claim, outcome, error=text, delay=delay)
        except LeaseLost:
            logger.warning("the lease of %s was lost; its new holder goes on", claim.id)
        except StoreError as refused:
            logger.warning("%s was not put back, and is due when its lease ends: %s", claim.id, refused)
        self._batch.settled([claim])

    async def _left_behind(self, claim: Claim) -> None:
        """A handler that goes on although it was cancelled: its slot stays taken, its result does not count."""
        error = HandlerTimeout("The handler did not end within its time, nor when it was cancelled.")
        logger.error("the handler %s goes on although it was cancelled; it keeps a slot of this process", claim.handler)
        await self._put_back(claim, *self._verdict(claim, error), error)

    async def _settle_done(self) -> None:
        """Settle in bulk what was handled without an effect."""
        done, self._done = self._done, []
        if not done:
            return
        try:
            self._lost += len(await self._core.store.queues.settle_many(done, "done"))
        except StoreError as error:
            logger.warning("%d events were handled, and are again when their leases end: %s", len(done), error)
            self._lost += len(done)
        self._batch.settled(done)
