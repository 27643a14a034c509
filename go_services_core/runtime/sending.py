"""The attempts of a call: reserve, sign, send, classify, and again where the rules allow it."""

from __future__ import annotations

from collections.abc import Callable

from ..auth.dpop_nonces import wanted_nonce
from ..errors import ProviderUnauthorized, ServicesError
from ..http import HttpRequest, HttpResponse
from ..secret import SecretStr
from .budget import reserve, settle
from .call import Call
from .core import Core, Loaded
from .hops import attempt
from .outcomes import error_for
from .refresh import ensure_fresh, refresh

Failure = Callable[[HttpResponse], ServicesError | None]


async def send(
    core: Core,
    call: Call,
    request: HttpRequest,
    *,
    failure: Failure | None = None,
    accept: tuple[int, ...] = (),
    safe: bool | None = None,
) -> HttpResponse:
    """The answer to one request of ``call`` that is a success: 200–299, or a status that is accepted.

    Args:
        core: the runtime's parts.
        call: the call that it belongs to.
        request: final, but not signed.
        failure, accept, safe: as in :class:`go_services_core.exchange.Send`.

    Raises:
        ProviderError: what the last answer means.
        TransportError: there was none.
    """
    call.loaded = await ensure_fresh(core, call.loaded)
    response = await _attempt(core, call, request)
    loaded = call.loaded
    if not 200 <= response.status < 300 and loaded.credential.refreshable and is_refused(core, loaded, response):
        core.forget(loaded.connection.id)
        renewed = await refresh(core, loaded.connection.id, used=loaded.credential.version, refused=True)
        if renewed.credential.version != loaded.credential.version:
            call.loaded = renewed
            response = await _attempt(core, call, request)
    error: Exception | None = failure(response) if failure is not None else None
    if error is None and not 200 <= response.status < 300 and response.status not in accept:
        error = error_for(core, call.loaded.instance, response, secrets=secrets_of(call.loaded))
    if error is not None:
        if isinstance(error, ProviderUnauthorized):
            core.forget(loaded.connection.id)
        raise error
    return response


async def _attempt(core: Core, call: Call, request: HttpRequest) -> HttpResponse:
    await reserve(core, call, request)
    call.attempts += 1
    response: HttpResponse | None = None
    try:
        response = await attempt(core, call, request)
    finally:
        await settle(core, call, response)
    return response


def is_refused(core: Core, loaded: Loaded, response: HttpResponse) -> bool:
    """Whether the credential is what is wrong: a 401 says so, unless it only asks for a nonce, or the kind's flow."""
    if response.status == 401:
        return not (loaded.bound and wanted_nonce(response) is not None)
    says = getattr(core.flow(loaded.key.auth.kind), "refused", None)
    return says is not None and bool(says(response))


def secrets_of(loaded: Loaded) -> tuple[SecretStr | None, ...]:
    """What must not be repeated from an answer."""
    tokens = loaded.credential.tokens
    return (tokens.access_token, tokens.refresh_token, tokens.id_token, *tokens.extra.values())
