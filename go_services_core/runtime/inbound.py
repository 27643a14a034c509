"""Webhooks in: verify the raw bytes, keep them durably, answer; what follows runs later."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..clock import uuid7
from ..errors import BadInput, WebhookRejected
from ..http import InboundRequest
from ..model import Accepted, InboxDelivery, Observation, Scope
from ..protocols import Challenge, Rejected, Verdict, WebhookVerifier
from . import bindings
from .core import Core
from .payload import encode_request
from .settings_secrets import prepared, read_again

if TYPE_CHECKING:
    from ..providers import ProviderInstance

MAX_BODY = 25 * 1024 * 1024
"""Bytes of a delivery's body; the largest that a built-in provider sends (GitHub)."""


async def accept_webhook(
    core: Core, provider_id: str, request: InboundRequest, *, connection_id: str | None
) -> Accepted:
    """Take in one delivery; see ``Runtime.accept_webhook``."""
    instance = core.instance(provider_id)
    scheme = instance.spec.webhook
    if scheme is None:
        raise BadInput(f"Provider {provider_id} sends no webhooks.", plugin=provider_id, field="webhook")
    if len(request.body) > MAX_BODY:
        raise WebhookRejected(f"The delivery is larger than {MAX_BODY} bytes.", plugin=provider_id)
    scope: Scope | None = None
    if connection_id is not None:
        connection = await core.store.connections.get(connection_id)
        if connection.provider_id != provider_id:
            raise BadInput("The connection belongs to another provider.", field="connection_id")
        scope = connection.scope
    verifier = _verifier(core, provider_id)
    await prepared(core, instance)
    verdict = await _verify(core, instance, verifier, request)
    if isinstance(verdict, Rejected) and await read_again(core, instance):
        verdict = await _verify(core, instance, verifier, request)
    if isinstance(verdict, Rejected):
        core.observe(Observation(name="webhook.rejected", at=core.clock.now(), ok=False, provider_id=provider_id))
        raise WebhookRejected(f"The delivery was rejected: {verdict.reason}.", plugin=provider_id)
    if isinstance(verdict, Challenge):
        return Accepted(id="", challenge=verdict.body, content_type=verdict.content_type)
    row_id = uuid7(core.clock)
    delivery = InboxDelivery(
        id=row_id,
        provider_id=provider_id,
        connection_id=connection_id,
        scope=scope,
        delivery_id=verdict.delivery_id,
        event=verdict.event,
        digest=hashlib.sha256(request.body).digest(),
        sealed=await core.sealer.seal(encode_request(request), bindings.inbox(row_id, provider_id, scope)),
        received_at=core.clock.now(),
    )
    accepted = await core.store.queues.accept(delivery)
    core.observe(
        Observation(
            name="webhook.duplicate" if accepted.duplicate else "webhook.accepted",
            at=core.clock.now(),
            provider_id=provider_id,
            connection_id=connection_id,
        )
    )
    return accepted


async def _verify(
    core: Core, instance: ProviderInstance, verifier: WebhookVerifier, request: InboundRequest
) -> Verdict:
    flow = verifier.verify(request, secrets=instance.webhook_secrets, now=core.clock.now())
    verdict: Verdict = await core.drive(flow, provider_id=instance.id)
    return verdict


def _verifier(core: Core, provider_id: str) -> WebhookVerifier:
    found = core.verifiers.get(provider_id)
    if found is None:
        record = core.instance(provider_id).spec.webhook
        assert record is not None
        found = core.catalog.webhook_scheme(record.scheme).verifier.resolve()(record)
        core.verifiers[provider_id] = found
    return found
