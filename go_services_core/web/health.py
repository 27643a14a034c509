"""``/health`` and ``/metrics``: what probes and scrapers ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RequestRefused
from ..http import HttpResponse
from .answers import GUARDS, json_answer
from .request import WebRequest
from .site import Site

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime

NO_REASON: Final = frozenset({"worker"})
"""Checks that do not decide about readiness: where work is late, what comes in must still be taken in and kept."""


async def health(runtime: Runtime, request: WebRequest, site: Site, of: str = "ready") -> HttpResponse:
    """``/health/live``: the process answers, 200. ``/health`` and ``/health/ready``: every health check says it can
    work, 200, else 503.

    It names the checks that fail and no more: what they say is for the operator, at ``go-services doctor`` and
    ``/status``.
    """
    if of == "live":
        return json_answer({"status": "ok"})
    if of != "ready":
        raise RequestRefused("There is nothing here.", status=404)
    answers = await site.readiness.ask(runtime)
    failing = [name for name, found in answers if not found.ok and name not in NO_REASON]
    if failing:
        return json_answer({"status": "failing", "checks": failing}, 503, (("Retry-After", "5"),))
    return json_answer({"status": "ok"})


async def metrics(runtime: Runtime, request: WebRequest, site: Site) -> HttpResponse:
    """What the first observer that can be scraped has counted, in its format.

    Raises:
        RequestRefused: 404, no installed observer can be.
    """
    for _, spec in sorted(runtime.catalog().observers.items()):
        if spec.exposition is not None:
            content_type, body = spec.exposition.resolve()(request.header("accept") or "")
            return HttpResponse(200, (("Content-Type", content_type), *GUARDS), body)
    raise RequestRefused(
        "No installed plugin can be scraped for metrics.",
        status=404,
        hint='Install one: pip install "go-services-core[prometheus]".',
    )
