"""One attempt on the wire: sign the final bytes and send them."""

from __future__ import annotations

from ..http import HttpRequest, HttpResponse
from .call import Call
from .core import Core
from .signed import send_signed


async def attempt(core: Core, call: Call, request: HttpRequest) -> HttpResponse:
    """The answer to ``request``, signed with the call's credential at this moment, whatever its status.

    Raises:
        SigningError: it cannot be signed; nothing was sent.
        TransportError: there is no answer; ``sent`` says whether a byte may have left.
    """
    loaded = call.loaded
    provider_id = loaded.instance.id
    if loaded.bound:
        return await send_signed(core, loaded.signer, loaded.key, request, provider_id=provider_id)
    signed = loaded.signer.sign(request, loaded.key, core.signing_context())
    return await core.transport.send(signed, provider_id=provider_id)
