"""Checks of how a provider tells of changes: its webhook record, its inbox, and its subscriptions."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ...delivery_specs import InboxPolicy
from ...specs import ProviderSpec
from ...webhook_specs import DeliveryFields, MtlsWebhook, OidcWebhook, SnsWebhook, TokenWebhook
from ..kit import Skipped, check

_SCHEME = re.compile(r"[a-z][a-z0-9_]*")
_UNFIT = frozenset({"none", "HS256", "HS384", "HS512"})
"""Algorithms without a key, or with one that the verifier shares."""
_MOST_ATTEMPTS = 100


@check("PRV-012", "provider")
async def webhook_is_verified_and_told_apart(spec: ProviderSpec) -> None:
    """A webhook record protects and identifies: something says the delivery's id, and its scheme has what it compares;
    the path of a token is a header or a parameter, of a push the audience and the sender, of TLS the sender's name.
    """
    webhook: Any = spec.webhook
    if webhook is None:
        raise Skipped("the provider sends no webhooks")
    assert _SCHEME.fullmatch(webhook.scheme), f"the scheme {webhook.scheme!r} is not of the form standard_key"
    if isinstance(webhook, DeliveryFields):
        identified = webhook.id_header or webhook.id_field or webhook.id_bucket
        assert identified, "nothing says where the delivery's id is, and there is no id_bucket: nothing dedupes"
        assert webhook.id_bucket is None or webhook.id_bucket > 0, "id_bucket is not above 0"
        assert not webhook.id_per_channel or webhook.channel_header, "id_per_channel, and nothing says the channel"
        if webhook.handshake is not None and webhook.handshake.where == "query":
            assert webhook.handshake.token, "a handshake by GET without a token is answered to anybody"
    if isinstance(webhook, TokenWebhook):
        assert (webhook.header is None) != (webhook.param is None), "a token has a header or a parameter, one of both"
    if isinstance(webhook, OidcWebhook):
        assert webhook.audience, "there is no audience, so that a token for anybody would do"
        assert webhook.email, "there is no email, so that a token of anybody would do"
        assert webhook.jwks_url.startswith("https://"), "jwks_url is not https"
        assert webhook.algorithms, "no algorithm is allowed"
        assert not _UNFIT & set(webhook.algorithms), "an algorithm needs no key, or a shared one"
    if isinstance(webhook, SnsWebhook):
        assert webhook.topics, "no topic may push"
        assert all(topic.startswith("arn:") for topic in webhook.topics), "a topic is not an ARN"
        assert webhook.tolerance > 0, "the tolerance is not positive"
    if isinstance(webhook, MtlsWebhook):
        assert webhook.subjects or webhook.dns_names or webhook.uris, "any sender with a certificate would do"


@check("PRV-013", "provider")
async def inbox_goes_by_what_deliveries_say(spec: ProviderSpec) -> None:
    """Order and bursts go by a channel, resource or event that the webhook record reads; a provider whose inbox differs
    from the standard one sends webhooks."""
    webhook: Any = spec.webhook
    if webhook is None:
        assert spec.inbox == InboxPolicy(), "the record has an inbox, and no webhook"
        raise Skipped("the provider sends no webhooks")
    wanted = {str(spec.inbox.order)} - {"none"}
    if spec.inbox.burst is not None:
        wanted.add(spec.inbox.burst.key)
        burst = spec.inbox.burst
        assert burst.mode == "coalesce" or burst.longest >= burst.window, "a burst's longest wait is below its window"
    if isinstance(webhook, DeliveryFields):
        for name in sorted(wanted):
            fields = [one for one in (f"{name}_header", f"{name}_field") if hasattr(webhook, one)]
            read = any(getattr(webhook, one) for one in fields)
            assert read, f"the inbox goes by the {name}, and the webhook record does not say where it is"
    assert spec.inbox.schedule.attempts <= _MOST_ATTEMPTS, f"a delivery is tried more than {_MOST_ATTEMPTS} times"


@check("PRV-014", "provider")
async def subscriptions_name_operations_and_parameters(spec: ProviderSpec) -> None:
    """A subscription names operations of the record, places what it sends in their parameters, knows its end and its
    id where it is renewed or cancelled, and its provider sends webhooks."""
    if not spec.subscriptions:
        raise Skipped("the provider has no subscriptions")
    assert spec.webhook is not None, "there are subscriptions, and no webhook record to verify what comes"
    operations = {one.id: one for one in spec.operations}
    types = [name for name, count in Counter(one.resource_type for one in spec.subscriptions).items() if count > 1]
    assert not types, f"the resource type {', '.join(types)} is there twice"
    for one in spec.subscriptions:
        used = [id for id in (one.create, one.renew, one.cancel) if id is not None]
        for id in used:
            assert id in operations, f"{one.resource_type}: there is no operation {id!r}"
        declared = {param.name for id in used for param in operations[id].params}
        lost = sorted(set(one.send.values()) - declared)
        assert not lost, f"{one.resource_type}: no operation has the parameter {', '.join(lost)}"
        shaped = spec.adapter is not None  # which may take a part of this upon itself
        if one.renew is not None or one.cancel is not None or one.channel == "remote":
            assert one.remote_id or "channel" in one.send or shaped, f"{one.resource_type}: nothing says remote_id"
        assert one.renew is None or one.expires or one.lifetime or shaped, (
            f"{one.resource_type}: it is renewed, and neither expires nor lifetime says when it ends"
        )
        assert all(100 <= status <= 599 for status in one.gone), f"{one.resource_type}: gone holds no HTTP status"
        early, lifetime = one.renew_early, one.lifetime
        assert early is None or lifetime is None or early < lifetime, f"{one.resource_type}: renew_early is its life"
        docs = one.docs_url
        assert docs is None or docs.startswith("https://"), f"{one.resource_type}: docs_url is not https"
