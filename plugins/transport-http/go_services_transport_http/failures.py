"""What went wrong, as an error of go_services_core that names method and host and nothing else of the request."""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp

from go_services_core.errors import (
    BadInput,
    BodyTooLarge,
    ConnectFailed,
    RequestTimeout,
    ResponseInvalid,
    ServicesError,
    TransportError,
)

from .alerts import certificate_refusal
from .answers import TooLarge, Undecodable
from .guard import denied
from .pools import Exchange, NotPublic

_LIMITS: Final = "A request's max_body, or the settings max_body and max_expansion of the transport, raise the limits."
_PROXIES: Final = "Check the settings transport.proxy and transport.proxies."
_CREDENTIALS: Final = "Check the setting transport.proxy_credentials."


def typed(error: Exception, exchange: Exchange) -> ServicesError:
    """The error to raise for ``error``. aiohttp's own messages hold whole URLs and are not used."""
    what = f"{exchange.method} {exchange.origin}"
    sent = exchange.sent
    if isinstance(error, NotPublic):
        return denied(exchange.provider_id, exchange.origin, f"its address is not public ({error.block})")
    if isinstance(error, TooLarge):
        return BodyTooLarge(f"{what}: the answer {error}.", hint=_LIMITS)
    if isinstance(error, Undecodable):
        kind = ResponseInvalid if error.unknown else TransportError
        return kind(f"{what}: the answer {error}.", sent=sent)
    if isinstance(error, TimeoutError):
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return RequestTimeout(f"{what}: no connection in time.", sent=sent)
        missing = "nothing came for" if exchange.idle else "no complete answer within"
        return RequestTimeout(f"{what}: {missing} {exchange.seconds:.3g} s.", sent=sent)
    if exchange.body_problem is not None:
        return TransportError(f"{what}: the request's body {exchange.body_problem}.", sent=sent)
    if refusal := exchange.refusal or certificate_refusal(error):
        # With TLS 1.3 the client's first request is on its way when the server accepts or refuses the client, and it
        # reads none before. Later, or after a renegotiation of TLS 1.2, it may have read the request.
        nothing_read = not sent or exchange.first_of_tls13
        kind = ConnectFailed if nothing_read else TransportError
        return kind(f"{what}: the server refuses the client certificate ({refusal}).", sent=not nothing_read)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return proxy_refusal(exchange, error.status)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ConnectFailed(f"{what}: the proxy cannot be reached: {connect_reason(error)}.", hint=_PROXIES)
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectFailed(f"{what}: {connect_reason(error)}.")
    if not sent and isinstance(error, (aiohttp.ClientError, OSError)) and not isinstance(error, aiohttp.InvalidURL):
        return ConnectFailed(f"{what}: no connection could be made.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransportError(f"{what}: the answer was cut short or cannot be decoded.", sent=sent)
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportError(f"{what}: the answer is not HTTP.", sent=sent)
    if isinstance(error, (aiohttp.InvalidURL, ValueError)) and not isinstance(error, aiohttp.ClientConnectionError):
        return BadInput(f"{what}: the request cannot be put on the wire.", field="request")
    return TransportError(f"{what}: the connection broke before the answer was complete.", sent=sent)


def proxy_refusal(exchange: Exchange, status: int) -> ConnectFailed:
    """The error for a proxy that does not pass the request on; the server behind it has read none of it."""
    why = "wants credentials, or others (407)" if status == 407 else f"does not let it through ({status})"
    return ConnectFailed(
        f"{exchange.method} {exchange.origin}: the proxy {why}.",
        hint=_CREDENTIALS if status == 407 else _PROXIES,
        metadata={"proxy_status": status},
    )


def cut_off(exchange: Exchange) -> TransportError:
    """The error for a request under whose hands the transport was closed."""
    return TransportError(f"{exchange.method} {exchange.origin}: the transport was closed.", sent=exchange.sent)


def connect_reason(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection, without addresses."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name does not resolve"
    cause: Exception = (
        error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted ({cause.verify_message.rstrip('.')})"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or 'no reason given'})"
    if isinstance(cause, OSError) and cause.errno:
        return f"no connection ({os.strerror(cause.errno)})"
    return "no connection"
