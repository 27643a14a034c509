"""The verdict on a delivery, for people who look for what is wrong with one: nothing is kept, nobody is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from ..errors import BadInput, ConfigError
from ..http import InboundRequest
from ..protocols import Verdict, WebhookVerifier
from ..providers import PLACEHOLDER, WEBHOOK_FILLED
from ..secret import SecretStr
from .core import Core
from .settings_secrets import prepared


def make_verifier(core: Core, provider_id: str, record: Any) -> WebhookVerifier:
    """The verifier of a webhook record.

    Raises:
        ConfigError: a setting that the record is made of is not set, or the record cannot protect.
    """
    for name in WEBHOOK_FILLED:
        given = getattr(record, name, ())
        for text in (given,) if isinstance(given, str) else given:
            if (open_ := PLACEHOLDER.search(text)) is not None:
                key = f"providers.{provider_id}.{open_[1]}"
                raise ConfigError(f"{key} must be set: how deliveries are verified is made of it.", field=key)
    try:
        return core.catalog.webhook_scheme(record.scheme).verifier.resolve()(record)
    except ValueError as why:
        text = f"The webhook record of provider {provider_id} cannot be used: {why}."
        raise ConfigError(text, plugin=provider_id, field="webhook") from None


async def verify_webhook(
    core: Core, provider_id: str, request: InboundRequest, *, secrets: Sequence[SecretStr] | None, at: datetime | None
) -> Verdict:
    """See ``Runtime.verify_webhook``."""
    instance = core.instance(provider_id)
    record: Any = instance.spec.webhook
    if record is None:
        raise BadInput(f"Provider {provider_id} sends no webhooks.", plugin=provider_id, field="webhook")
    if getattr(record, "confirm", False):
        record = attrs.evolve(record, confirm=False)  # or a look at an old capture would subscribe
    await prepared(core, instance)
    verifier = make_verifier(core, provider_id, record)
    live = instance.webhook_secrets if secrets is None else tuple(secrets)
    flow = verifier.verify(request, secrets=live, now=at or core.clock.now())
    verdict: Verdict = await core.drive(flow, provider_id=instance.id)
    return verdict
