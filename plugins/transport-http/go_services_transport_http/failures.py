"""What went wrong, as an error of go_services_core that names method and host and nothing else of the request."""

from __future__ import annotations

import os
import ssl

import aiohttp

from go_services_core.errors import BadInput, ConnectFailed, RequestTimeout, ServicesError, TransportError

from .alerts import certificate_refusal
from .guard import denied
from .pools import Exchange, NotPublic


def typed(
    error: Exception, exchange: Exchange, *, method: str, origin: str, provider_id: str, timeout: float
) -> ServicesError:
    """The error to raise for ``error``. aiohttp's own messages hold whole URLs and are not used."""
    what = f"{method} {origin}"
    sent = exchange.sent
    if isinstance(error, NotPublic):
        return denied(provider_id, origin, f"its address is not public ({error.block})")
    if isinstance(error, TimeoutError):
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return RequestTimeout(f"{what}: no connection in time.", sent=sent)
        return RequestTimeout(f"{what}: no complete answer within {timeout:g} s.", sent=sent)
    if exchange.body_problem is not None:
        return TransportError(f"{what}: the request's body {exchange.body_problem}.", sent=sent)
    if refusal := exchange.refusal or certificate_refusal(error):
        # With TLS 1.3 the client's first request is on its way when the server accepts or refuses the client, and it
        # reads none before. Later, or after a renegotiation of TLS 1.2, it may have read the request.
        nothing_read = not sent or exchange.first_of_tls13
        kind = ConnectFailed if nothing_read else TransportError
        return kind(f"{what}: the server refuses the client certificate ({refusal}).", sent=not nothing_read)
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectFailed(f"{what}: {connect_reason(error)}.")
    if not sent and isinstance(error, (aiohttp.ClientConnectionError, OSError)):
        return ConnectFailed(f"{what}: no connection could be made.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransportError(f"{what}: the answer was cut short or cannot be decoded.", sent=sent)
    if isinstance(error, aiohttp.ClientResponseError):
        return TransportError(f"{what}: the answer is not HTTP.", sent=sent)
    if isinstance(error, (aiohttp.InvalidURL, ValueError)) and not isinstance(error, aiohttp.ClientConnectionError):
        return BadInput(f"{what}: the request cannot be put on the wire.", field="request")
    return TransportError(f"{what}: the connection broke before the answer was complete.", sent=sent)


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
