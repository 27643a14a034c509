"""The work of a verification where there is nothing to verify against.

Whoever has no secret learns from an answer neither which providers and connections there are nor which have a secret;
nor should the time tell that an answer takes. What is refused before it is verified is verified in vain, with a secret
that nobody knows. Requests to others that a scheme would make are not made.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from contextlib import suppress
from datetime import datetime
from os import urandom
from typing import TYPE_CHECKING, Final

from ..secret import SecretStr
from .webhook_secrets import receiving

if TYPE_CHECKING:
    from ..http import InboundRequest
    from ..protocols import WebhookVerifier
    from .core import Core

_NOBODYS: Final = SecretStr("whsec_" + b64encode(urandom(32)).decode())
"""In the form of Standard Webhooks, which other schemes take as well."""


def as_if_verified(verifier: WebhookVerifier, request: InboundRequest, now: datetime) -> None:
    """Verify as far as the scheme goes by itself; what it finds is dropped."""
    flow = verifier.verify(request, secrets=(_NOBODYS,), now=now)
    with suppress(StopIteration):
        next(flow)
    flow.close()


async def as_if_received(core: Core, request: InboundRequest, provider_id: str, connection_id: str | None) -> None:
    """Look for the connection, and sign the body, for a provider that there is not."""
    if connection_id is not None:
        await receiving(core, provider_id, connection_id)
        await core.store.resources.subscriptions(connection_id=connection_id, status="active")
    hmac.digest(_NOBODYS.reveal().encode(), request.body, "sha256")
