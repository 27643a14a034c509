"""One attempt on the wire: sign the final bytes and send them, to where redirects lead."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta

from attrs import evolve

from ..errors import ProviderError, RequestTimeout
from ..http import HttpRequest, HttpResponse
from .call import Call
from .core import Core
from .redirects import Chain, is_done, is_redirect
from .signed import send_signed
from .skew import send_dated


async def attempt(core: Core, call: Call, request: HttpRequest) -> HttpResponse:
    """The answer to ``request``, signed with the call's credential at this moment, whatever its status.

    Redirects are followed as the operation's record says; all of them together have the request's time.

    Raises:
        SigningError: it cannot be signed; nothing was sent.
        TransportError: there is no answer; ``sent`` says whether a byte may have left.
        RedirectRefused, EgressDenied: a redirect is not followed.
    """
    began = core.clock.monotonic()
    response = await _sent(core, call, request)
    if 300 <= response.status < 400 and call.operation.redirects != "none" and is_redirect(response):
        return await _followed(core, call, request, response, until=began + (request.timeout or call.timeout))
    return response


# Plain functions: a coroutine that only awaits another one costs each call something.


def _sent(core: Core, call: Call, request: HttpRequest) -> Awaitable[HttpResponse]:
    if call.loaded.dated:
        return send_dated(core, call, request, lambda ahead: _signed(core, call, request, ahead))
    return _signed(core, call, request)


def _signed(core: Core, call: Call, request: HttpRequest, ahead: timedelta | None = None) -> Awaitable[HttpResponse]:
    loaded = call.loaded
    provider_id = loaded.instance.id
    if loaded.bound:
        return send_signed(
            core, loaded.signer, loaded.key, request, provider_id=provider_id, transport=call.transport, ahead=ahead
        )
    signed = (call.signer or loaded.signer).sign(request, loaded.key, core.signing_context(ahead=ahead))
    return (call.transport or core.transport).send(signed, provider_id=provider_id)


async def _followed(
    core: Core, call: Call, request: HttpRequest, response: HttpResponse, *, until: float
) -> HttpResponse:
    loaded = call.loaded
    chain = Chain(loaded.instance, call.operation, request, loaded.key.secret)
    own = True
    while is_redirect(response):
        call.led_on = call.led_on or is_done(request.method, response.status)
        hop = chain.follow(response)
        own, left = hop.own, until - core.clock.monotonic()
        if left <= 0:
            raise RequestTimeout(f"{call.operation.id} was redirected until its time was over.")
        request = evolve(hop.request, timeout=left)
        call.at = request.url
        if own:
            response = await _sent(core, call, request)
        else:
            response = await (call.transport or core.transport).send(request, provider_id=loaded.instance.id)
    if not own and response.status == 401:
        # Not about the credential, which was not sent: nothing is renewed for it.
        raise ProviderError(
            f"The host to which {loaded.instance.id} redirects {call.operation.id} wants a credential (401).",
            upstream_status=401,
            plugin=loaded.instance.id,
        )
    return response
