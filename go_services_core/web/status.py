"""``/status``: what an operator wants to see first, as JSON and as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._version import VERSION
from ..errors import FacetMissing
from ..http import HttpResponse
from .answers import PAGE_HEADERS, json_answer, wants_json
from .request import WebRequest
from .site import Site

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime

LISTED: Final = 20
"""Connections that need a person, at most."""
NEED_A_PERSON: Final = ("pending_reauth", "needs_reconsent", "errored")


async def status(runtime: Runtime, request: WebRequest, site: Site) -> HttpResponse:
    """The state as JSON, or as a page for who prefers one."""
    found = await gathered(runtime, site)
    if wants_json(request, otherwise=True):
        return json_answer(found)
    from .status_page import status_page

    return HttpResponse(200, PAGE_HEADERS, status_page(found))


async def gathered(runtime: Runtime, site: Site) -> dict[str, Any]:
    """What the page shows; no field holds a secret.

    ``failures`` are the newest of this process, with their codes; ``attention`` the first connections that go on only
    once a person has done something.
    """
    counts = await runtime.connection_counts()
    providers = [
        {
            "id": id,
            "name": instance.spec.name,
            "auth": [one.kind for one in instance.spec.auth],
            "webhooks": instance.spec.webhook is not None,
            "operations": len(instance.spec.operations),
            "connections": dict(sorted(counts.get(id, {}).items())),
        }
        for id, instance in sorted(runtime.providers().items())
    ]
    health = await site.readiness.ask(runtime)
    return {
        "version": VERSION,
        "health": [{"check": name, "ok": one.ok, "detail": one.detail, "remedy": one.remedy} for name, one in health],
        "providers": providers,
        **await _work(runtime),
        "attention": await _attention(runtime),
        "failures": [
            {
                "at": one.at,
                "what": one.name,
                "provider_id": one.provider_id,
                "connection_id": one.connection_id,
                "code": one.error_code,
            }
            for one in reversed(site.failures.newest)
        ],
    }


async def _work(runtime: Runtime) -> dict[str, Any]:
    """What waits in the queues and who works on them; nothing where the store does not keep it."""
    try:
        known = await runtime.worker_status()
    except FacetMissing:
        return {"queues": [], "workers": []}
    return {
        "queues": [
            {"queue": one.queue, "due": one.due, "lag_seconds": round(one.lag, 1), "dead": one.dead}
            for one in known.backlog
        ],
        "workers": [
            {
                "host": one.host,
                "pid": one.pid,
                "started_at": one.started_at,
                "beat_seconds_ago": round(one.age, 1),
                "alive": one.alive,
                "done": sum(counts.done for counts in one.counts.values()),
                "failed": sum(counts.failed for counts in one.counts.values()),
            }
            for one in known.processes
        ],
    }


async def _attention(runtime: Runtime) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for state in NEED_A_PERSON:
        page = await runtime.connections(status=state, limit=LISTED - len(found))
        found += [
            {"id": one.id, "provider_id": one.provider_id, "scope": str(one.scope), "status": one.status}
            for one in page.items
        ]
        if len(found) == LISTED:
            break
    return found
