"""Endpoints that a provider has and its record does not: described from the call itself, so that its rules hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from attrs import evolve

from ..errors import BadInput, nearest
from ..hosts import PLAIN_URL
from ..http import check_header
from ..specs import Operation, Param
from .requests import PLACEHOLDER, Plan, compile_plan

if TYPE_CHECKING:
    from ..providers import ProviderInstance

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_OURS: Final = frozenset({
    "authorization", "proxy-authorization", "cookie", "host", "content-length", "transfer-encoding", "connection", "te",
    "trailer", "upgrade", "keep-alive", "expect", "dpop", "signature", "signature-input",
    "x-http-method-override", "x-http-method", "x-method-override",
})  # fmt: skip
"""Headers that are the signer's, the transport's, or nobody's: a method in a header has not the rules of the call's."""
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WORD: Final = re.compile(r"[a-z][a-z._-]{0,30}[0-9]{0,2}", re.IGNORECASE)
_BODY: Final = "body"


def endpoint(
    instance: ProviderInstance,
    method: str,
    path: str,
    params: Mapping[str, Any],
    *,
    body: Any,
    headers: Mapping[str, str],
) -> tuple[Plan, dict[str, Any]]:
    """The plan for one call of an endpoint, and its parameters.

    An endpoint that an operation of the record describes keeps that operation's capability, cost, budget and rules of
    repeating. Its id has no value of a parameter in it: ``get /repos/{owner}/{repo}/branches`` where the path has
    placeholders, otherwise ``get /repos/…``.

    Raises:
        BadInput: method, path, header or body is not one that may be sent.
    """
    upper = method.upper()
    if upper not in METHODS:
        raise BadInput(f"The method is one of {', '.join(METHODS)}.", field="method")
    _check_path(path)
    _check_climb(path)
    filled = _filled(path, params)
    names = set(PLACEHOLDER.findall(path))
    declared: list[Param] = []
    values: dict[str, Any] = {}
    for name, value in params.items():
        if name in names:
            declared.append(Param(name, "path", _type(value)))
        else:
            declared.append(
                Param(name, "query", _type(value), style="brackets" if isinstance(value, dict) else "repeat")
            )
        values[name] = value
    for name in sorted(names - set(params)):
        near = nearest(name, params)
        raise BadInput(
            f"The path has {{{name}}}, and no value is given for it.",
            hint=f"There is one for {near!r}." if near else None,
            field=name,
        )
    for name, value in headers.items():
        _add(declared, values, Param(f"header {name}", "header", wire=_header(instance, name)), value)
    if body is not None:
        if not isinstance(body, (dict, list, str, bytes)):
            raise BadInput(f"A body is a dict, list, str or bytes, not {type(body).__name__}.", field="body")
        _add(declared, values, Param(f"the {_BODY}", "raw", _type(body)), body)
    made = Operation(_label(upper, path), upper, path, params=tuple(declared), answer="auto")
    _check_climb(filled)
    known = _described(instance, upper, filled)
    if known is not None:
        made = evolve(
            made,
            id=f"{upper.lower()} {known.path.partition('?')[0]}",
            capability=known.capability,
            idempotency_header=known.idempotency_header,
            keyed=known.keyed,
            idempotent=known.idempotent,
            cost=known.cost,
            budget=known.budget,
            retry=known.retry,
        )
    return compile_plan(instance, made), values


def _check_path(path: str) -> None:
    """Below the base URL, encoded, and without dots that would climb out of it (RFC 3986 §5.2.4)."""
    if not path.startswith("/") or path.startswith("//"):
        raise BadInput("The path begins with one / and is below the API's base URL, without a host.", field="path")
    if "?" in path or "#" in path:
        raise BadInput(
            "The path has a query or a fragment.",
            hint="Give the query apart from the path, value by value.",
            field="path",
        )
    if not PLAIN_URL.fullmatch(path) or "\\" in path or _BAD_ESCAPE.search(path):
        raise BadInput(
            "The path holds a character that must be percent-encoded.",
            hint="Write {name} where a value goes, and give the value apart from the path.",
            field="path",
        )


def _check_climb(path: str) -> None:
    for segment in unquote(path).replace("\\", "/").split("/"):  # servers differ in what they decode first
        if segment.partition(";")[0] in (".", ".."):
            raise BadInput("The path climbs out of itself with dots.", field="path")


def _header(instance: ProviderInstance, name: str) -> str:
    check_header(name, "")
    lowered = name.lower()
    api = instance.spec.api
    if lowered in _OURS or lowered.startswith(("sec-", "proxy-")):
        raise BadInput(f"The header {name} is not the caller's to set.", field="headers")
    if api is not None and api.idempotency_header is not None and lowered == api.idempotency_header.lower():
        raise BadInput(
            f"The header {name} carries the idempotency key.",
            hint="Give the call an idempotency key instead.",
            field="headers",
        )
    return name


def _add(declared: list[Param], values: dict[str, Any], param: Param, value: Any) -> None:
    if param.name in values:
        raise BadInput(f"The parameter {param.name!r} cannot be sent beside what it names.", field=param.name)
    declared.append(param)
    values[param.name] = value


def _type(value: Any) -> Any:
    """The declared type that ``value`` has."""
    if isinstance(value, bool):
        return "boolean"
    for kind, types in (
        ("integer", int), ("number", float), ("array", (list, tuple)), ("object", dict), ("bytes", bytes),
    ):  # fmt: skip
        if isinstance(value, types):
            return kind
    return "datetime" if hasattr(value, "tzinfo") else "date" if hasattr(value, "isoformat") else "string"


def _label(method: str, path: str) -> str:
    """A name of low cardinality."""
    if PLACEHOLDER.search(path):
        return f"{method.lower()} {path}"
    first, _, rest = path[1:].partition("/")
    return f"{method.lower()} /{first if _WORD.fullmatch(first) else '…'}{'/…' if rest else ''}"


def _filled(path: str, params: Mapping[str, Any]) -> str:
    return PLACEHOLDER.sub(lambda found: quote(str(params.get(found[1], "")), safe=""), path)


def carried_at(instance: ProviderInstance, method: str, path: str, params: Mapping[str, Any]) -> Iterator[Operation]:
    """The operations of the record that a transport kind sends to that endpoint, such as all that are GraphQL.

    What one of them does shows in its body alone, so that a call of the endpoint needs what each of them needs.
    """
    readings = _readings(_filled(path, params))
    for operation in instance.spec.operations:
        if operation.call is not None and operation.method.upper() == method.upper():
            template = _template(operation)
            if any(_fits(operation, template, segments) for segments in readings):
                yield operation


def _readings(path: str) -> tuple[list[str], list[str]]:
    """Segments as a template would be filled, and as a server reads them that decodes first, merges slashes or drops
    ``;…``."""
    plain = [unquote(segment) for segment in path.rstrip("/").split("/")]
    bare = [segment.partition(";")[0] for segment in unquote(path).split("/")]
    return plain, ["", *filter(None, bare)]


def _described(instance: ProviderInstance, method: str, path: str) -> Operation | None:
    """The operation of the record whose template fits ``path``; of several the one with the fewest placeholders."""
    plain, bare = _readings(path)
    return _fitting(instance, method, plain) or _fitting(instance, method, bare)


def _fitting(instance: ProviderInstance, method: str, segments: list[str]) -> Operation | None:
    found: Operation | None = None
    fewest = len(segments) + 1
    for operation in instance.spec.operations:
        if operation.method.upper() != method or operation.call is not None:
            continue
        template = _template(operation)
        free = sum("{" in part for part in template)
        if free < fewest and _fits(operation, template, segments):
            found, fewest = operation, free
    return found


def _template(operation: Operation) -> list[str]:
    return operation.path.partition("?")[0].rstrip("/").split("/")


def _fits(operation: Operation, template: list[str], segments: list[str]) -> bool:
    for position, part in enumerate(template):
        if position >= len(segments):
            return False
        if "{" not in part:
            if part != segments[position]:
                return False
        elif any(f"{{{one.name}}}" == part and one.style == "segments" for one in operation.params):
            return True
    return len(template) == len(segments)
