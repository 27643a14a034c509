"""The messages for endpoints as operators see them: listed, tested, and sent again after they died."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ..clock import uuid7
from ..endpoints import SEND_JOB, Endpoint, EndpointAnswer, EndpointMessage
from ..errors import Conflict, NotFound
from ..model import Job, JobStatus, Page
from .core import Core
from .webhook_endpoints import get
from .webhook_sends import attempt


async def page(
    core: Core,
    *,
    endpoint_id: str | None,
    status: JobStatus | None,
    since: datetime | None,
    until: datetime | None,
    after: str | None,
    limit: int,
) -> Page[EndpointMessage]:
    """Messages by the id of their job; see ``Runtime.endpoint_messages``."""
    queues = core.store.queues
    listed = await queues.list("jobs", name=SEND_JOB, status=status, since=since, until=until, after=after, limit=limit)
    found: list[EndpointMessage] = []
    for item in listed.items:
        job = await queues.job(item.id)
        if job is not None and endpoint_id in (None, job.payload["endpoint"]):
            found.append(_message(job))
    if endpoint_id is not None and after is None and not found:
        await get(core, endpoint_id)
    return Page(tuple(found), listed.next)


def _message(job: Job) -> EndpointMessage:
    return EndpointMessage(
        id=job.id,
        message_id=job.payload["message"],
        endpoint_id=job.payload["endpoint"],
        event=job.payload["event"],
        status=job.status,
        attempts=job.attempts,
        error=job.last_error,
        created_at=job.created_at,
    )


async def replay_one(core: Core, job_id: str) -> bool:
    """Make a dead message due again. Of two operators one does (P73).

    Raises:
        NotFound: there is no such message, or its endpoint was removed.
        Conflict: its endpoint is disabled, so that it would die again.
    """
    job = await core.store.queues.job(job_id)
    if job is None or job.kind != SEND_JOB:
        raise NotFound(f"There is no message {job_id!r}.", metadata={"id": job_id})
    _check(await get(core, job.payload["endpoint"]))
    return await core.store.queues.requeue("jobs", job_id)


async def replay(core: Core, endpoint_id: str, *, since: datetime | None, until: datetime | None, dry_run: bool) -> int:
    """Make an endpoint's dead messages due again; see ``Runtime.replay_endpoint_messages``."""
    _check(await get(core, endpoint_id))
    count, after = 0, None
    while True:
        found = await page(
            core, endpoint_id=endpoint_id, status="failed", since=since, until=until, after=after, limit=100
        )
        for message in found.items:
            count += dry_run or await core.store.queues.requeue("jobs", message.id)
        after = found.next
        if after is None:
            return count


def _check(endpoint: Endpoint) -> None:
    if endpoint.status == "disabled":
        raise Conflict(
            f"The endpoint {endpoint.id} is disabled: {endpoint.status_reason}.",
            hint="Resume it first; its messages would die again.",
            metadata={"id": endpoint.id},
        )


async def test(core: Core, endpoint_id: str) -> EndpointAnswer:
    """Send one message that is no event's, once and at once; see ``Runtime.test_endpoint``."""
    endpoint = await get(core, endpoint_id)
    timestamp = core.clock.now().astimezone(UTC).isoformat().replace("+00:00", "Z")
    body = json.dumps({"type": "endpoint.test", "timestamp": timestamp, "data": {"endpoint_id": endpoint.id}})
    answer = await attempt(core, endpoint, id=uuid7(core.clock), body=body.encode("ascii"))
    return EndpointAnswer(ok=answer.ok, status=answer.status, detail=answer.detail)
