"""Sending messages to endpoints. ``docs/explanation/outgoing-webhooks.md`` has the table of what follows from what."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ..delivery_specs import Schedule
from ..endpoints import ENDPOINT_PROVIDER, SEND_JOB, Endpoint, EndpointAnswer
from ..errors import BodyTooLarge, LeaseLost, ServicesError, StoreError, TransportError
from ..http import USER_AGENT, HttpRequest, HttpResponse
from ..protocols import StreamTransport
from ..retry_after import retry_after
from ..webhooks.standard import sign
from . import webhook_endpoints as endpoints
from .core import Core, logger
from .lanes import Lane
from .spans import Span

if TYPE_CHECKING:
    from ..model import Claim, Event

MOST: Final = 256
"""Messages that one process has at once, sent or waiting in a lane."""
PATIENCE: Final = 0.5
"""Real seconds for which a run waits for what it has begun; the rest goes on, and the next run counts it."""
BUSY: Final = 5.0
"""Seconds until a message is claimed again that found its endpoint's lane full."""
PAUSED: Final = 60.0
"""The same where the endpoint is paused."""
LANE: Final = 4
"""Messages that wait in a lane, for each one that is sent at once."""
LONGEST_PAUSE: Final = 3600.0
LONGEST_ASKED: Final = 86_400.0
"""Seconds that a receiver may ask to wait by Retry-After."""
_ANSWER: Final = 65_536
"""Bytes that are read of an answer, so that its connection serves the next message; nothing is made of them."""
_MARGIN: Final = 5.0


@frozen(kw_only=True)
class Attempt(EndpointAnswer):
    """The answer to one attempt, with what the sender makes of it."""

    wait: float | None = None
    """Seconds to wait, where the receiver said so with 429 or 503."""
    gone: bool = False


async def run(core: Core, limit: int) -> tuple[int, int]:
    """Claim and send up to ``limit`` messages; gives how many ended well and how many failed since the last run.

    It does not wait for endpoints that are slow: what they have goes on, and is counted later.
    """
    sends = core.sends
    room = min(limit, MOST - len(sends.held))
    if room > 0 and not core.closing:
        claims = await core.store.queues.claim(
            "jobs", owner=core.owner, lease=core.worker.lease, limit=room, kinds=[SEND_JOB]
        )
        await _begin(core, claims)
    if sends.tasks:
        await asyncio.wait(sends.tasks, timeout=PATIENCE)
    return sends.counted()


async def finish(core: Core) -> None:
    """Begin nothing more, and end what was begun."""
    core.closing = True
    await rest(core)


async def rest(core: Core) -> None:
    """Give back what waits, and let what is being sent come to its end; a later run may begin anew."""
    sends = core.sends
    await _give_back_waiting(core)
    while sends.tasks:
        await asyncio.wait(sends.tasks)
    await _stop_keeping(core)


async def abandon(core: Core) -> None:
    """Give back what waits and what is being sent, now: others send the latter once more."""
    sends = core.sends
    await _give_back_waiting(core)
    for task in sends.tasks:
        task.cancel()
    if sends.tasks:
        await asyncio.wait(sends.tasks)
    sends.lanes.clear()  # a task that had not begun leaves its lane as it was
    await _stop_keeping(core)


async def _give_back_waiting(core: Core) -> None:
    waiting = [claim for lane in core.sends.lanes.values() for claim in lane.waiting]
    for lane in core.sends.lanes.values():
        lane.waiting.clear()
    for claim in waiting:
        core.sends.held.pop(claim.id, None)
    if waiting:
        try:
            await core.store.queues.give_back(waiting)
        except StoreError as error:
            logger.warning("messages could not be given back: %s", error)  # their leases end


async def _stop_keeping(core: Core) -> None:
    if core.sends.keeping is not None:
        core.sends.keeping.cancel()
        await asyncio.gather(core.sends.keeping, return_exceptions=True)


async def attempt(core: Core, endpoint: Endpoint, *, id: str, body: bytes) -> Attempt:
    """Send one message once. Nothing of a caller's is in it: its headers are these alone.

    Raises:
        SecretError: the endpoint's secrets cannot be opened.
    """
    live = [one.secret for one in await endpoints.secrets_of(core, endpoint)]
    signed = sign(body, id=id, timestamp=core.clock.now(), secrets=live, jose=core.jose)
    request = HttpRequest(
        "POST",
        endpoint.url,
        (("Content-Type", "application/json"), USER_AGENT, *signed),
        body,
        timeout=core.endpoints.timeout,
        max_body=_ANSWER,
    )
    try:
        async with asyncio.timeout(core.endpoints.timeout + _MARGIN):
            return _judged(core, await _answer(core, request))
    except TimeoutError:
        return Attempt(ok=False, detail="The answer did not come in time.")
    except TransportError as error:
        return Attempt(ok=False, detail=error.message)


async def _answer(core: Core, request: HttpRequest) -> HttpResponse:
    if not isinstance(core.transport, StreamTransport):
        return await core.transport.send(request, provider_id=ENDPOINT_PROVIDER)
    async with core.transport.stream(request, provider_id=ENDPOINT_PROVIDER) as response:
        with contextlib.suppress(BodyTooLarge):  # the status says it all; the connection is closed
            await response.read(_ANSWER)
        return HttpResponse(response.status, response.headers, url=response.url)


def _judged(core: Core, response: HttpResponse) -> Attempt:
    status = response.status
    if 200 <= status < 300:
        return Attempt(ok=True, status=status)
    detail = f"The endpoint answered {status}."
    if 300 <= status < 400:
        detail = f"The endpoint answered {status}; redirects are not followed."
    asked: float | None = None
    if status in (429, 503):
        asked = retry_after(response, core.clock.now())
    return Attempt(
        ok=False,
        status=status,
        detail=detail,
        wait=None if asked is None else min(asked, LONGEST_ASKED),
        gone=status == 410,
    )


# --- lanes ----------------------------------------------------------------------------------------------------------


async def _begin(core: Core, claims: Sequence[Claim]) -> None:
    """Put claims into their lanes; those for which a lane has no room are given back."""
    sends, most = core.sends, core.endpoints.concurrency
    excess: list[Claim] = []
    for claim in claims:
        lane = sends.lanes.setdefault(_payload(claim)["endpoint"], Lane())
        if len(lane.waiting) >= LANE * most:
            excess.append(claim)
            continue
        lane.waiting.append(claim)
        sends.held[claim.id] = claim
        if lane.running < most:
            lane.running += 1
            task = asyncio.create_task(_work(core, _payload(claim)["endpoint"], lane))
            sends.tasks.add(task)
            task.add_done_callback(sends.tasks.discard)
    if excess:
        await core.store.queues.give_back(excess, delay=BUSY)
    if sends.held and (sends.keeping is None or sends.keeping.done()):
        sends.keeping = asyncio.create_task(_keep(core))


async def _work(core: Core, endpoint_id: str, lane: Lane) -> None:
    sends = core.sends
    try:
        while lane.waiting:
            claim = lane.waiting.popleft()
            try:
                ended = claim.id in sends.held and await _handle(core, claim)
                sends.done, sends.failed = sends.done + ended, sends.failed + (not ended)
            finally:
                sends.held.pop(claim.id, None)
    finally:
        lane.running -= 1
        if not lane.running and not lane.waiting:
            sends.lanes.pop(endpoint_id, None)


async def _keep(core: Core) -> None:
    """Extend the leases of what is held, and let go of what is lost."""
    held, lease = core.sends.held, core.worker.lease
    while held:
        await asyncio.sleep(lease / 3)  # in real time, by which the database ends leases
        try:
            for id in await core.store.queues.heartbeat(list(held.values()), lease=lease):
                held.pop(id, None)
        except StoreError as error:
            logger.warning("leases could not be extended: %s", error)


# --- one message ----------------------------------------------------------------------------------------------------


async def _handle(core: Core, claim: Claim) -> bool:
    payload = _payload(claim)
    with Span(
        core,
        "endpoint.send",
        endpoint=payload["endpoint"],
        event=payload["event"],
        item=claim.id,
        attempt=claim.attempt,
    ) as span:
        try:
            return await _send(core, claim, span)
        except LeaseLost as error:
            span.failed(error)  # its new holder goes on
            return False
        except asyncio.CancelledError as error:
            span.failed(error)
            with contextlib.suppress(StoreError):  # then it is due when its lease ends
                await core.store.queues.give_back([claim])
            raise
        except Exception as error:
            span.failed(error)
            text = error.message[:500] if isinstance(error, ServicesError) else type(error).__name__
            try:
                await _again(core, claim, Attempt(ok=False, detail=text))
            except (LeaseLost, StoreError) as lost:
                logger.warning("job %s stays as it is until its lease ends: %s", claim.id, lost)
            return False


async def _send(core: Core, claim: Claim, span: Span) -> bool:
    payload, queues = _payload(claim), core.store.queues
    admission = await endpoints.facet(core).admit(payload["endpoint"], seconds=core.endpoints.timeout + 2 * _MARGIN)
    endpoint = admission.endpoint
    if endpoint is None:
        span.detail["outcome"] = "removed"
        await queues.settle(claim, "done", error="The endpoint was removed; nothing was sent.")
        return True
    span.scope = endpoint.scope
    if endpoint.status == "disabled":
        span.detail["outcome"] = "disabled"
        await _dead(core, claim, endpoint, Attempt(ok=False, detail="The endpoint is disabled."))
        return False
    if endpoint.status == "paused" or admission.wait > 0:
        span.detail["outcome"] = "waits"
        delay = PAUSED if endpoint.status == "paused" else admission.wait
        await queues.give_back([claim], delay=delay * (1 + 0.2 * _chance(core)))
        return True
    answer = await attempt(core, endpoint, id=payload["message"], body=payload["body"].encode("ascii"))
    span.detail |= {"upstream_status": answer.status, "outcome": "sent" if answer.ok else "failed"}
    if answer.ok:
        if endpoint.failures:
            await _report(core, endpoint, answer)
        await queues.settle(claim, "done")
        return True
    span.failed(TransportError(answer.detail))
    if answer.gone:
        await endpoints.disable(core, endpoint.id, reason="410 Gone")
        await _dead(core, claim, endpoint, answer)
        return False
    lasting = await _report(core, endpoint, answer)
    if lasting >= core.endpoints.disable_after:
        await endpoints.disable(core, endpoint.id, reason=f"nothing but failures for {lasting:.0f} seconds")
    await _again(core, claim, answer, endpoint, span)
    return False


async def _report(core: Core, endpoint: Endpoint, answer: Attempt) -> float:
    """Say how it went; gives the seconds since when nothing else was heard than failures."""
    settings = core.endpoints
    if answer.wait is not None:  # a receiver that asks to wait means all messages
        return await endpoints.facet(core).report(endpoint.id, failed=True, threshold=1, pause=answer.wait)
    doubled = min(max(0, endpoint.failures + 1 - settings.open_after), 16)
    pause = min(settings.pause * 2**doubled, LONGEST_PAUSE)
    return await endpoints.facet(core).report(
        endpoint.id, failed=not answer.ok, threshold=settings.open_after, pause=pause
    )


async def _again(
    core: Core, claim: Claim, answer: Attempt, endpoint: Endpoint | None = None, span: Span | None = None
) -> None:
    delay = Schedule(delays=core.endpoints.delays).delay(claim.attempt, lambda: _chance(core))
    if delay is None:
        await _dead(core, claim, endpoint, answer)
        return
    delay = max(delay, answer.wait or 0.0)
    await core.store.queues.settle(claim, "retry", error=answer.detail, delay=delay)
    if span is not None:
        span.again(TransportError(answer.detail), delay)


async def _dead(core: Core, claim: Claim, endpoint: Endpoint | None, answer: Attempt) -> None:
    payload = _payload(claim)
    found = endpoint or await endpoints.facet(core).get(payload["endpoint"])
    told: list[Event] = []
    if found is not None:
        event = endpoints.event_of(
            core,
            found,
            "message_dead",
            job=claim.id,
            message_id=payload["message"],
            event=payload["event"],
            attempts=claim.attempt,
            detail=answer.detail,
        )
        told.append(event)
    await core.store.queues.settle(claim, "dead", error=answer.detail, events=told)


def _payload(claim: Claim) -> dict[str, str]:
    assert claim.job is not None
    return dict(claim.job.payload)


def _chance(core: Core) -> float:
    return int.from_bytes(core.clock.random(4), "big") / 2**32
