"""SOAP 1.1 (https://www.w3.org/TR/2000/NOTE-SOAP-20000508/) and 1.2 (https://www.w3.org/TR/soap12-part1/)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from go_services_core.call_specs import OperationCall
from go_services_core.errors import (
    BadInput,
    ProviderError,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    ResponseInvalid,
    ServicesError,
)
from go_services_core.exchange import Answer, Exchange, Send
from go_services_core.http import Headers, HttpRequest, HttpResponse
from go_services_core.protocols import PluginEnv
from go_services_core.transport_specs import Soap

from .elements import Element, attribute, read, written
from .meaning import meant
from .settings import SoapSettings, require_above_zero
from .username_token import HEADER, UsernameTokenSigner

_ENVELOPES: Final = {
    "1.1": "http://schemas.xmlsoap.org/soap/envelope/",
    "1.2": "http://www.w3.org/2003/05/soap-envelope",
}
_UNAUTHORIZED: Final = frozenset(
    {"FailedAuthentication", "InvalidSecurityToken", "SecurityTokenUnavailable", "FailedCheck", "MessageExpired"}
)
"""Fault codes of WSS: SOAP Message Security 1.1 §12 that say that the credential is not accepted."""
_PROVIDER: Final = frozenset({"Server", "Receiver"})


def open_soap(settings: SoapSettings, env: PluginEnv) -> SoapTransport:
    """The transport kind ``soap``.

    Raises:
        ConfigError: a setting cannot be used.
    """
    return SoapTransport(settings)


class SoapTransport:
    """POSTs an envelope, and reads the answer's body or its fault."""

    def __init__(self, settings: SoapSettings) -> None:
        require_above_zero(settings, "max_elements", "max_depth")
        self._settings = settings

    def exchange(self, call: OperationCall) -> Exchange:
        """The one step. The result is the element in the answer's body as a dict, without its own name.

        Raises:
            BadInput: the record is not a :class:`Soap`, or a parameter has no form in XML.
        """
        spec = call.record
        if not isinstance(spec, Soap):
            raise BadInput("The kind soap takes a Soap record.", field="call")
        response = yield Send(
            request=HttpRequest("POST", call.url, _headers(call, spec), envelope(spec, call.body), call.timeout),
            failure=lambda answer: self._failure(call, spec, answer),
            signer=UsernameTokenSigner(spec.ws_security) if spec.ws_security != "none" else None,
        )
        body = self._body(call, response)
        content = body.children[0].data(spec.lists) if body.children else None
        return Answer(content, response)

    def _body(self, call: OperationCall, response: HttpResponse) -> Element:
        root = read(response.body, max_elements=self._settings.max_elements, max_depth=self._settings.max_depth)
        body = root.child("Body") if root.name == "Envelope" and root.namespace in _ENVELOPES.values() else None
        if body is None:
            raise ResponseInvalid(f"The answer to {call.operation_id} is no SOAP envelope ({response.content_type}).")
        return body

    def _failure(self, call: OperationCall, spec: Soap, response: HttpResponse) -> ServicesError | None:
        """The error that a fault stands for: over HTTP it comes with 500, whatever it is (SOAP 1.1 §6.2)."""
        try:
            body = self._body(call, response)
        except ResponseInvalid as error:
            return error if 200 <= response.status < 300 else None
        fault = body.child("Fault")
        return None if fault is None else _error(call, spec, response, fault)


def envelope(spec: Soap, params: Mapping[str, Any]) -> bytes:
    """The envelope of a request, with an empty header.

    Raises:
        BadInput: a parameter has no form in XML.
    """
    attributes = attribute("xmlns", spec.namespace, field="namespace")
    for prefix, uri in spec.namespaces.items():
        attributes += attribute(f"xmlns:{prefix}", uri, field="namespaces")
    for name, value in spec.attributes.items():
        attributes += attribute(name, value, field="attributes")
    content = "".join(written(name, value, spec.namespaces, field=name) for name, value in params.items())
    return (
        f'<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="{_ENVELOPES[spec.version]}">'
        f"{HEADER.decode()}<soap:Body><{spec.body}{attributes}>{content}</{spec.body}></soap:Body></soap:Envelope>"
    ).encode()


def _headers(call: OperationCall, spec: Soap) -> Headers:
    if any(char in spec.action for char in '"\\\r\n'):
        raise BadInput("The action of a Soap record cannot hold quotes or line breaks.", field="action")
    kind = "text/xml" if spec.version == "1.1" else "application/soap+xml"
    request = HttpRequest("POST", call.url, call.headers).with_header("Accept", kind)
    if spec.version == "1.1":
        request = request.with_header("Content-Type", f"{kind}; charset=utf-8")
        return request.with_header("SOAPAction", f'"{spec.action}"').headers
    action = f'; action="{spec.action}"' if spec.action else ""
    return request.with_header("Content-Type", f"{kind}; charset=utf-8{action}").headers


def _error(call: OperationCall, spec: Soap, response: HttpResponse, fault: Element) -> ProviderError:
    codes = [fault.said("faultcode")]
    code = fault.child("Code")
    while code is not None:  # SOAP 1.2 §5.4.1: subcodes stand in each other
        codes.append(code.said("Value"))
        code = code.child("Subcode")
    codes = [text.rpartition(":")[2] for text in codes if text]
    reason = fault.said("faultstring") or fault.said("Reason", "Text")
    first = codes[0].partition(".")[0] if codes else ""
    # The reason is the provider's text: it is in the excerpt, from which credentials are removed, not in the message.
    details: dict[str, Any] = {
        "upstream_status": response.status,
        "upstream_code": codes[-1][:80] if codes else None,
        "plugin": call.provider_id,
    }
    said = f"{call.provider_id} answered operation {call.operation_id} with the fault {'/'.join(codes)[:160] or '?'}."
    heard = f"{' '.join(codes)} {reason}".lower()
    if any(word.lower() in heard for word in spec.throttled):
        return meant(RateLimited, said, **details)
    if _UNAUTHORIZED.intersection(codes):
        return meant(ProviderUnauthorized, said, **details)
    return meant(ProviderUnavailable if first in _PROVIDER else ProviderError, said, **details)
