"""Webhooks in: verify the raw bytes, keep them durably, answer; what follows runs later."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from ..clock import uuid7
from ..errors import BadInput, WebhookRejected, WebhookTooLarge
from ..http import InboundRequest
from ..model import Accepted, InboxDelivery, Observation
from ..protocols import Challenge, Rejected, Verdict, Verified, WebhookVerifier
from ..webhooks.reading import MOST_EVENT, usable
from . import bindings
from .core import Core, logger
from .in_vain import as_if_received, as_if_verified
from .payload import encode_request
from .settings_secrets import prepared, read_again
from .verification import make_verifier
from .webhook_secrets import Door, find_door

if TYPE_CHECKING:
    from ..delivery_specs import InboxPolicy
    from ..providers import ProviderInstance

MAX_BODY: Final = 25 * 1024 * 1024
"""Bytes of a delivery's body; the largest that a built-in provider sends (GitHub)."""
MAX_KEY: Final = 200
"""Characters of what makes an order or burst key; the hash of what is longer takes its place."""


async def accept_webhook(
    core: Core, provider_id: str, request: InboundRequest, *, connection_id: str | None
) -> Accepted:
    """Take in one delivery; see ``Runtime.accept_webhook``."""
    door, verdict = await authentic(core, provider_id, request, connection_id=connection_id)
    if isinstance(verdict, Challenge):
        return Accepted(id="", challenge=verdict.body, content_type=verdict.content_type)
    verdict = _storable(provider_id, verdict)
    connection = door.connection
    scope = None if connection is None else connection.scope
    instance = core.instance(provider_id)
    policy = instance.spec.inbox
    row_id = uuid7(core.clock)
    kept = request if verdict.body is None else evolve(request, body=verdict.body)
    delivery = InboxDelivery(
        id=row_id,
        provider_id=provider_id,
        connection_id=None if connection is None else connection.id,
        scope=scope,
        delivery_id=verdict.delivery_id,
        event=verdict.event,
        digest=hashlib.sha256(request.body).digest(),
        sealed=await core.sealer.seal(encode_request(kept), bindings.inbox(row_id, provider_id, scope)),
        received_at=core.clock.now(),
        order_key=_order_key(policy, door, instance, verdict),
        channel=verdict.channel,
        resource=verdict.resource,
        burst_key=_burst_key(policy, door, verdict),
    )
    accepted = await core.store.queues.accept(delivery, burst=policy.burst)
    if core.observers:
        _observe(core, delivery, accepted)
    return accepted


def _observe(core: Core, delivery: InboxDelivery, accepted: Accepted) -> None:
    about: dict[str, Any] = {
        "at": core.clock.now(),
        "provider_id": delivery.provider_id,
        "connection_id": delivery.connection_id,
    }
    if accepted.duplicate or accepted.quarantined:
        core.observe(Observation(name="webhook.duplicate" if accepted.duplicate else "webhook.quarantined", **about))
        return
    core.observe(Observation(name="webhook.accepted", **about))
    if accepted.supersedes:
        core.observe(Observation(name="webhook.superseded", **about))


def _storable(provider_id: str, verdict: Verified) -> Verified:
    """What the scheme found, as columns and log lines can hold it: schemes are also other people's.

    Raises:
        WebhookRejected: the delivery has no id by which a repetition would be known.
    """
    if not usable(verdict.delivery_id):
        raise WebhookRejected("The delivery was rejected: the scheme found no id of it.", plugin=provider_id)
    event = usable(verdict.event, MOST_EVENT) or "unknown"
    channel, resource = usable(verdict.channel), usable(verdict.resource)
    if (event, channel, resource) == (verdict.event, verdict.channel, verdict.resource):
        return verdict
    return evolve(verdict, event=event, channel=channel, resource=resource)


async def authentic(
    core: Core, provider_id: str, request: InboundRequest, *, connection_id: str | None
) -> tuple[Door, Verified | Challenge]:
    """Where a request came in, and what the provider's scheme found in it.

    Raises:
        BadInput: the provider sends nothing.
        WebhookTooLarge: its body is larger than any provider's.
        WebhookRejected: the request is not authentic, or no connection of the provider's that lives has the URL.
        BackendUnavailable, KeyNotFound: it is not, by the secrets that could be read, and one could not be read now.
    """
    if len(request.body) > MAX_BODY:
        raise WebhookTooLarge(f"The delivery is larger than {MAX_BODY} bytes.", plugin=provider_id)
    instance = core.instances.get(provider_id)
    if instance is None or instance.spec.webhook is None:
        await as_if_received(core, request, provider_id, connection_id)
        core.instance(provider_id)
        raise BadInput(f"Provider {provider_id} sends no webhooks.", plugin=provider_id, field="webhook")
    await prepared(core, instance)
    door, verdict = await _verdict(core, instance, request, connection_id)
    if isinstance(verdict, Rejected) and await read_again(core, instance):
        door, verdict = await _verdict(core, instance, request, connection_id)
    if door is None or isinstance(verdict, Rejected):
        if door is not None and door.unread is not None:
            raise door.unread
        core.observe(Observation(name="webhook.rejected", at=core.clock.now(), ok=False, provider_id=provider_id))
        reason = verdict.reason if isinstance(verdict, Rejected) else ""
        logger.info("a delivery of %s was rejected: %s", provider_id, reason)
        raise WebhookRejected(f"The delivery was rejected: {reason}.", plugin=provider_id)
    return door, verdict


async def _verdict(
    core: Core, instance: ProviderInstance, request: InboundRequest, connection_id: str | None
) -> tuple[Door | None, Verdict]:
    verifier = _verifier(core, instance)
    now = core.clock.now()
    door = await find_door(core, instance, verifier, request, connection_id)
    if isinstance(door, Rejected):
        as_if_verified(verifier, request, now)
        return None, door
    verdict: Verdict = await core.drive(
        verifier.verify(request, secrets=door.secrets, now=now), provider_id=instance.id
    )
    if isinstance(verdict, Rejected) and not door.secrets:
        as_if_verified(verifier, request, now)
    return door, verdict


def _verifier(core: Core, instance: ProviderInstance) -> WebhookVerifier:
    found = core.verifiers.get(instance.id)
    if found is None:
        record = instance.spec.webhook
        assert record is not None
        found = core.verifiers[instance.id] = make_verifier(core, instance.id, record)
    return found


def _order_key(policy: InboxPolicy, door: Door, instance: ProviderInstance, verdict: Verified) -> str | None:
    """It names the provider as well: the event, which has it too, is ordered among those of all providers."""
    key = None if policy.order == "none" else _key(door, policy.order, getattr(verdict, policy.order))
    return None if key is None else f"{instance.id}:{key}"


def _burst_key(policy: InboxPolicy, door: Door, verdict: Verified) -> str | None:
    return None if policy.burst is None else _key(door, policy.burst.key, getattr(verdict, policy.burst.key))


def _key(door: Door, kind: str, value: str) -> str | None:
    """A key of one connection; None where the delivery does not say what it is about."""
    if not value.strip():
        return None
    if len(value) > MAX_KEY:
        value = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{'-' if door.connection is None else door.connection.id}:{kind}:{value}"
