"""``/webhooks/{provider}`` and ``/webhooks/{provider}/{connection}``: deliveries, and the handshakes before them."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from ..errors import (
    BadInput,
    IdempotencyMismatch,
    ProviderNotFound,
    ServicesError,
    WebhookRejected,
    WebhookTooLarge,
)
from ..http import HttpResponse
from .answers import RETRY_AFTER, error_answer, guarded, json_answer
from .body import read_body
from .request import WebRequest
from .site import Site

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime

logger = logging.getLogger("go_services.web")


async def receive(
    runtime: Runtime, request: WebRequest, site: Site, provider_id: str, connection_id: str | None = None
) -> HttpResponse:
    """Keep a delivery: 200 once it is stored or was stored before, and for a handshake its answer.

    Where the application answers on the surface ``webhook``, its answer is given in place of that. Whatever else fails
    than what ``_refused`` answers is no fault of the delivery: 503, so that the provider sends it again. That holds as
    well for a handler that failed too often: at a 410 senders disable the endpoint
    (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
    """
    body = await read_body(request, limit=site.body_limit, seconds=site.body_seconds)
    try:
        received = request.inbound(body)
        return guarded(await runtime.receive("webhook", provider_id, received, connection_id=connection_id))
    except (WebhookTooLarge, IdempotencyMismatch) as error:
        return error_answer(request, error)
    except (WebhookRejected, ProviderNotFound):
        return _refused(request)
    except Exception as error:
        if isinstance(error, BadInput) and error.field == "idempotency_key":
            return error_answer(request, error)
        if isinstance(error, BadInput) and error.field == "webhook":
            return _refused(request)
        if not isinstance(error, ServicesError):
            logger.exception("a webhook of %s could not be taken in", provider_id)
        code = error.code if isinstance(error, ServicesError) else ServicesError.code
        seconds = math.ceil(getattr(error, "retry_after", None) or RETRY_AFTER)
        said = {"error": {"code": code, "message": "The delivery could not be kept."}}
        return json_answer(said, 503, (("Retry-After", str(seconds)),))


def _refused(request: WebRequest) -> HttpResponse:
    """One answer for all that cannot be shown to be somebody's delivery: it tells neither which providers and
    connections there are, nor which of them have a secret, nor what was wrong; the log does.
    """
    return error_answer(request, WebhookRejected("The delivery was rejected."))
