"""From an operation's record and its parameters to the final request, before signing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import frozen

from ..call_specs import OperationCall
from ..errors import BadInput, UnknownParameter, nearest
from ..http import ACCEPT_ENCODING, USER_AGENT, Headers, HttpRequest, check_header
from ..specs import ApiSpec, Operation, Param

if TYPE_CHECKING:
    from ..providers import ProviderInstance

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}
_PLAIN_INTEGERS = 1 << 62
"""Below this every integer can be written as it is: Python refuses to print those of thousands of digits."""
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@frozen
class Plan:
    """An operation compiled once: what does not depend on the parameters is ready."""

    operation: Operation
    method: str
    literals: tuple[str, ...]
    """The URL between its placeholders; one more than there are names."""
    names: tuple[str, ...]
    headers: Headers
    params: Mapping[str, Param]
    encoded: Mapping[str, str]
    """The parameters' names as they stand in a query."""
    required: tuple[str, ...]
    has_body: bool
    idempotency_header: str | None


def compile_plan(instance: ProviderInstance, operation: Operation) -> Plan:
    """Prepare ``operation`` for an instance.

    Raises:
        BadInput: the provider has no API, the template names a parameter that the operation does not declare, or it is
            keyed and has no header for the key.
    """
    api = instance.spec.api
    if api is None:
        raise BadInput(f"Provider {instance.id} has no API.", hint="Set base_url for it.", plugin=instance.id)
    base_url: str = getattr(operation.call, "base_url", None) or api.base_url
    url = base_url.rstrip("/") + operation.path
    names = tuple(_PLACEHOLDER.findall(url))
    params = {param.name: param for param in operation.params}
    for name in names:
        if name not in params or params[name].where != "path":
            raise BadInput(
                f"The path of operation {operation.id} has {{{name}}}, which is not a path parameter of it.",
                plugin=instance.id,
                field="path",
            )
    idempotency_header = operation.idempotency_header or api.idempotency_header
    if operation.keyed and idempotency_header is None:
        raise BadInput(
            f"Operation {operation.id} is keyed, and neither it nor the API has an idempotency_header.",
            plugin=instance.id,
            field="idempotency_header",
        )
    accept = "application/json" if operation.answer == "json" else "*/*"
    defaults: Headers = (("Accept", accept), ACCEPT_ENCODING, USER_AGENT)
    has_body = any(param.where == "body" for param in operation.params)
    if has_body:
        defaults = (*defaults, ("Content-Type", "application/json"))
    return Plan(
        operation=operation,
        method=operation.method.upper(),
        literals=tuple(_PLACEHOLDER.split(url)[::2]),
        names=names,
        headers=headers_of(api, defaults),
        params=params,
        encoded={name: quote(name, safe="") for name in params},
        required=tuple(param.name for param in operation.params if param.required or param.where == "path"),
        has_body=has_body,
        idempotency_header=idempotency_header,
    )


def headers_of(api: ApiSpec, defaults: Headers) -> Headers:
    """The API's own headers, and those of ``defaults`` that it does not set itself."""
    own = {name.lower() for name in api.headers}
    return (*api.headers.items(), *(pair for pair in defaults if pair[0].lower() not in own))


def build(plan: Plan, params: Mapping[str, Any], *, idempotency_key: str | None, timeout: float | None) -> HttpRequest:
    """The request for one call over plain HTTP.

    Raises:
        UnknownParameter: the operation has no such parameter; the message has the nearest one.
        BadInput: a required parameter is missing, or one has the wrong type.
    """
    url, headers, body = _filled(plan, params, idempotency_key)
    content = _json(plan.operation, body) if plan.has_body else None
    return HttpRequest(plan.method, url, headers, content, timeout)


def parts(plan: Plan, params: Mapping[str, Any], *, idempotency_key: str | None, timeout: float) -> OperationCall:
    """The same for a transport kind that shapes the request itself; raises as :func:`build`."""
    url, headers, body = _filled(plan, params, idempotency_key)
    return OperationCall(plan.operation.id, plan.operation.call, plan.method, url, headers, body, timeout)


def _filled(plan: Plan, params: Mapping[str, Any], idempotency_key: str | None) -> tuple[str, Headers, dict[str, Any]]:
    """URL, headers and body."""
    for name in plan.required:
        if params.get(name) is None:
            raise BadInput(f"Operation {plan.operation.id} needs the parameter {name!r}.", field=name)
    path: dict[str, str] = {}
    query: list[str] = []
    body: dict[str, Any] = {}
    headers = plan.headers
    for name, value in params.items():
        param = plan.params.get(name)
        if param is None:
            raise _unknown(plan, name)
        if value is None:
            continue
        _check_type(plan.operation, param, value)
        if param.where == "query":
            encoded = plan.encoded[name]
            if type(value) is int and abs(value) < _PLAIN_INTEGERS:
                query.append(f"{encoded}={value}")
                continue
            items = value if isinstance(value, (list, tuple)) else (value,)
            query.extend(f"{encoded}={_encoded(plan.operation, name, item)}" for item in items)
        elif param.where == "path":
            path[name] = _segment(plan.operation, name, value)
        elif param.where == "body":
            body[name] = value
        else:
            headers = _with(headers, name, _text(plan.operation, name, value))
    url = plan.literals[0]
    for name, literal in zip(plan.names, plan.literals[1:], strict=True):
        url += path[name] + literal
    if query:
        url += ("&" if "?" in url else "?") + "&".join(query)
    if idempotency_key is not None and plan.idempotency_header is not None:
        headers = _with(headers, plan.idempotency_header, idempotency_key)
    return url, headers, body


def _with(headers: Headers, name: str, value: str) -> Headers:
    check_header(name, value)
    return (*(pair for pair in headers if pair[0].lower() != name.lower()), (name, value))


def _json(operation: Operation, body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(
            f"The body of operation {operation.id} cannot be written as JSON: {error}.", field="body"
        ) from None


def _unknown(plan: Plan, name: str) -> UnknownParameter:
    near = nearest(name, plan.params)
    known = ", ".join(plan.params) or "none"
    return UnknownParameter(
        f"Operation {plan.operation.id} has no parameter {name!r}.",
        hint=f"Did you mean {near!r}?" if near else f"It has: {known}.",
        field=name,
    )


def _check_type(operation: Operation, param: Param, value: Any) -> None:
    fits = isinstance(value, _TYPES[param.type])
    if isinstance(value, bool) and param.type in ("integer", "number"):
        fits = False
    if not fits:
        raise BadInput(
            f"The parameter {param.name!r} of operation {operation.id} is {param.type}, not {type(value).__name__}.",
            field=param.name,
        )


def _text(operation: Operation, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        what = f"{value}" if isinstance(value, float) else type(value).__name__
        raise BadInput(f"The parameter {name!r} of operation {operation.id} cannot be sent as {what}.", field=name)
    try:
        return str(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        raise BadInput(f"The parameter {name!r} of operation {operation.id} is too long.", field=name) from None


def _encoded(operation: Operation, name: str, value: Any) -> str:
    try:
        return quote(_text(operation, name, value), safe="")
    except UnicodeEncodeError:
        raise BadInput(
            f"The parameter {name!r} of operation {operation.id} holds a character that cannot be encoded.", field=name
        ) from None


def _segment(operation: Operation, name: str, value: Any) -> str:
    """One path segment. Dots alone would climb out of the template (RFC 3986 §5.2.4), however they are encoded."""
    if value in ("", ".", ".."):
        raise BadInput(f"The parameter {name!r} of operation {operation.id} cannot be {value!r}.", field=name)
    return _encoded(operation, name, value)
