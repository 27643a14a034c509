"""Sending signed requests to resources that may ask for a nonce in them (RFC 9449 §9)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ..auth.dpop_nonces import wanted_nonce
from ..http import HttpRequest, HttpResponse
from .core import Core

if TYPE_CHECKING:
    from ..protocols import Signer, SigningKey, Transport


async def send_signed(
    core: Core,
    signer: Signer,
    key: SigningKey,
    request: HttpRequest,
    *,
    provider_id: str,
    transport: Transport | None = None,
    ahead: timedelta | None = None,
) -> HttpResponse:
    """The answer to ``request``, signed with what its server offered last, and once more with what it then asks for.

    The second answer counts, whatever it is. ``transport`` None is the runtime's own; ``ahead`` is what the server's
    clock is before ours.
    """
    transport = transport or core.transport
    response = await _send(core, signer, key, request, provider_id, transport, ahead)
    if wanted_nonce(response) is not None and not request.is_once:
        response = await _send(core, signer, key, request, provider_id, transport, ahead)
    return response


async def _send(
    core: Core,
    signer: Signer,
    key: SigningKey,
    request: HttpRequest,
    provider_id: str,
    transport: Transport,
    ahead: timedelta | None,
) -> HttpResponse:
    signed = signer.sign(request, key, core.signing_context(core.nonces.get("resource", request.url), ahead=ahead))
    response = await transport.send(signed, provider_id=provider_id)
    core.nonces.learn("resource", request.url, response)
    return response
