"""The verdict on a delivery, for people who look for what is wrong with one: nothing is kept, nobody is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from ..errors import BadInput
from ..http import InboundRequest
from ..protocols import Verdict
from ..secret import SecretStr
from .core import Core
from .settings_secrets import prepared


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
    verifier = core.catalog.webhook_scheme(record.scheme).verifier.resolve()(record)
    live = instance.webhook_secrets if secrets is None else tuple(secrets)
    flow = verifier.verify(request, secrets=live, now=at or core.clock.now())
    verdict: Verdict = await core.drive(flow, provider_id=instance.id)
    return verdict
