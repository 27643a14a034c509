"""From an operation's record and its parameters to the final request, before signing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from attrs import frozen

from ..call_specs import OperationCall
from ..errors import BadInput, UnknownParameter, nearest
from ..http import ACCEPT_ENCODING, USER_AGENT, Headers, HttpRequest, check_header
from ..specs import ApiSpec, Operation, Param
from .values import fitted, in_path, in_query, text

if TYPE_CHECKING:
    from ..providers import ProviderInstance

_PLAIN_INTEGERS: Final = 1 << 62
"""Below this every integer can be written as it is: Python refuses to print those of thousands of digits."""
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ACCEPT: Final = {"json": "application/json", "auto": "application/json, */*;q=0.5"}
_RAW: Final = {"string": "text/plain; charset=utf-8", "bytes": "application/octet-stream"}
"""Content types of raw bodies that are not JSON."""


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
    """The parameters' wire names as they stand in a query."""
    nested: Mapping[str, tuple[str, ...]]
    """Body parameters that do not stand at the top of the body under their own name → where."""
    defaults: Mapping[str, Any]
    required: tuple[str, ...]
    has_body: bool
    """Whether it has parameters that stand in a JSON body."""
    has_raw: bool
    """Whether a parameter is the body."""
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
    names = tuple(PLACEHOLDER.findall(url))
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
    defaults: Headers = (("Accept", _ACCEPT.get(operation.answer, "*/*")), ACCEPT_ENCODING, USER_AGENT)
    has_body = any(param.where == "body" for param in operation.params)
    raw = next((param for param in operation.params if param.where == "raw"), None)
    if has_body or raw is not None:
        kind = _RAW.get(raw.type) if raw is not None else None
        defaults = (*defaults, ("Content-Type", kind or "application/json"))
    return Plan(
        operation=operation,
        method=operation.method.upper(),
        literals=tuple(PLACEHOLDER.split(url)[::2]),
        names=names,
        headers=headers_of(api, defaults),
        params=params,
        encoded={name: quote(param.wire or name, safe="") for name, param in params.items()},
        nested={
            name: tuple(param.wire.split("."))
            for name, param in params.items()
            if param.wire is not None and param.where == "body"
        },
        defaults={name: param.default for name, param in params.items() if param.default is not None},
        required=tuple(
            param.name
            for param in operation.params
            if (param.required or param.where == "path") and param.default is None
        ),
        has_body=has_body,
        has_raw=raw is not None,
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
        BadInput: a required parameter is missing, or one does not fit what the operation declares.
    """
    url, headers, body, raw = _filled(plan, params, idempotency_key)
    content = _json(plan.operation, body) if plan.has_body else raw
    if content is None and plan.has_raw:
        headers = tuple(pair for pair in headers if pair[0].lower() != "content-type")
    return HttpRequest(plan.method, url, headers, content, timeout)


def parts(plan: Plan, params: Mapping[str, Any], *, idempotency_key: str | None, timeout: float) -> OperationCall:
    """The same for a transport kind that shapes the request itself; raises as :func:`build`."""
    url, headers, body, raw = _filled(plan, params, idempotency_key)
    if raw is not None:
        raise BadInput(f"Operation {plan.operation.id} takes no raw body: its transport kind makes one.", field="body")
    return OperationCall(plan.operation.id, plan.operation.call, plan.method, url, headers, body, timeout)


def _filled(
    plan: Plan, params: Mapping[str, Any], idempotency_key: str | None
) -> tuple[str, Headers, dict[str, Any], bytes | None]:
    """URL, headers, body, and the body where it is one raw parameter."""
    operation = plan.operation
    if plan.defaults:
        params = {**plan.defaults, **params}
    for name in plan.required:
        if params.get(name) is None and not (name in params and plan.params[name].nullable):
            if (unknown := next((one for one in params if one not in plan.params), None)) is not None:
                raise _unknown(plan, unknown)  # what is missing may be there by a wrong name
            raise BadInput(f"Operation {operation.id} needs the parameter {name!r}.", field=name)
    path: dict[str, str] = {}
    query: list[str] = []
    body: dict[str, Any] = {}
    raw: bytes | None = None
    headers = plan.headers
    for name, given in params.items():
        param = plan.params.get(name)
        if param is None:
            raise _unknown(plan, name)
        if given is None and not param.nullable:
            continue
        value = None if given is None else fitted(operation, param, given)
        if param.where == "query":
            wire = plan.encoded[name]
            if type(value) is int and abs(value) < _PLAIN_INTEGERS:
                query.append(f"{wire}={value}")
            else:
                query += in_query(operation, param, wire, value)
        elif param.where == "path":
            path[name] = in_path(operation, param, value)
        elif param.where == "body":
            if name in plan.nested:
                _put(operation, body, plan.nested[name], value)
            else:
                body[name] = value
        elif param.where == "header":
            headers = _with(headers, param.wire or name, text(operation, name, value))
        else:
            raw = _raw(operation, name, value)
    url = plan.literals[0]
    if plan.names:
        for name, literal in zip(plan.names, plan.literals[1:], strict=True):
            url += path[name] + literal
    if query:
        url += ("&" if "?" in url else "?") + "&".join(query)
    if idempotency_key is not None and plan.idempotency_header is not None:
        headers = _with(headers, plan.idempotency_header, idempotency_key)
    return url, headers, body, raw


def _put(operation: Operation, body: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    """Set ``value`` at a path of ``body``. What the caller gave there already stays untouched: it is copied."""
    for key in keys[:-1]:
        inner = body.get(key)
        if inner is not None and not isinstance(inner, dict):
            raise BadInput(f"Two parameters of operation {operation.id} stand at {key!r} of its body.", field=key)
        inner = body[key] = dict(inner or {})
        body = inner
    body[keys[-1]] = value


def _with(headers: Headers, name: str, value: str) -> Headers:
    check_header(name, value)
    return (*(pair for pair in headers if pair[0].lower() != name.lower()), (name, value))


def _raw(operation: Operation, name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise BadInput(f"The parameter {name!r} of operation {operation.id} is not Unicode.", field=name) from None
    return _json(operation, value)


def _json(operation: Operation, body: Any) -> bytes:
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
