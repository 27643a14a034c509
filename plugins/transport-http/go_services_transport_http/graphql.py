"""GraphQL over HTTP: errors in answers of 200, persisted queries, and waits out of the cost of a query."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from go_services_core.call_specs import OperationCall
from go_services_core.errors import (
    BadInput,
    ProviderError,
    ProviderForbidden,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    ResponseInvalid,
    ServicesError,
)
from go_services_core.exchange import Answer, Exchange, Send
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.protocols import PluginEnv
from go_services_core.transport_specs import GraphQL

from .meaning import meant

_CODES: Final[Mapping[str, type[ProviderError]]] = {
    "UNAUTHENTICATED": ProviderUnauthorized,
    "FORBIDDEN": ProviderForbidden,
    "ACCESS_DENIED": ProviderForbidden,
    "NOT_FOUND": ProviderNotFoundAnswer,
    "INTERNAL_SERVER_ERROR": ProviderUnavailable,
}
"""Codes of Apollo Server, Shopify and GitHub (https://www.apollographql.com/docs/apollo-server/data/errors)."""
_THROTTLED: Final = frozenset({"THROTTLED", "RATE_LIMITED", "RATE_LIMIT"})
_NOT_PERSISTED: Final = frozenset({"PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND"})
_NOT_SUPPORTED: Final = frozenset({"PersistedQueryNotSupported", "PERSISTED_QUERY_NOT_SUPPORTED"})
_BY_STATUS: Final = frozenset({401, 403, 404, 429})
_PARTS: Final = re.compile(
    r'#[^\r\n]*|"""(?:\\"""|.)*?"""|"(?:\\.|[^"\\\r\n])*"|[(){}]|[A-Za-z_][A-Za-z0-9_]*', re.DOTALL
)
_REMEMBERED: Final = 1024


def open_graphql(settings: None, env: PluginEnv) -> GraphQLTransport:
    """The transport kind ``graphql``."""
    return GraphQLTransport()


class GraphQLTransport:
    """POSTs the document of the operation's record with its variables."""

    def __init__(self) -> None:
        self._unsupported: set[str] = set()
        """URLs of servers that keep no persisted queries."""
        self._reads: dict[tuple[str, str | None], bool] = {}

    def exchange(self, call: OperationCall) -> Exchange:
        """The steps: one request, or with ``persisted="auto"`` two where the server does not know the document.

        Raises:
            BadInput: the record is not a :class:`GraphQL`, or a variable has no JSON form.
        """
        spec = call.record
        if not isinstance(spec, GraphQL):
            raise BadInput("The kind graphql takes a GraphQL record.", field="call")
        persisted = spec.persisted != "off" and (spec.persisted == "only" or call.url not in self._unsupported)
        full = not persisted
        while True:
            response = yield Send(
                request=_request(call, spec, persisted=persisted, full=full),
                failure=partial(_failure, call, spec, hash_alone=not full),
                accept=(400,) if not full else (),
                safe=self._is_read(spec) or None,
            )
            answer = _read(call, response)
            said = _marks(answer)
            if full or not said & (_NOT_PERSISTED | _NOT_SUPPORTED):
                break
            if said & _NOT_SUPPORTED:
                persisted = False
                if len(self._unsupported) < _REMEMBERED:
                    self._unsupported.add(call.url)
            full = True
        if spec.partial == "keep":
            return Answer({"data": answer.get("data"), "errors": answer.get("errors") or []}, response)
        return Answer(answer.get("data"), response)

    def _is_read(self, spec: GraphQL) -> bool:
        key = (spec.document, spec.operation_name)
        found = self._reads.get(key)
        if found is None:
            if len(self._reads) >= _REMEMBERED:
                self._reads.clear()
            found = self._reads[key] = is_read(*key)
        return found


def is_read(document: str, operation_name: str | None) -> bool:
    """Whether what runs is a query, so that repeating it changes nothing.

    A document with several operations of different kinds, of which none is named, is taken for a mutation.
    """
    depth = 0
    words: list[str] = []
    operations: dict[str, set[str]] = {}
    for token in _PARTS.findall(document):
        if token in "({":
            if depth == 0 and token == "{":
                kind, name = (*words, "", "")[:2] if words else ("query", "")
                operations.setdefault(name, set()).add(kind)
                words = []
            depth += 1
        elif token in ")}":
            depth -= 1
        elif depth == 0 and token[0] not in '#"':
            words.append(token)
    if operation_name is not None:
        return operations.get(operation_name) == {"query"}
    return {kind for kinds in operations.values() for kind in kinds} - {"fragment"} == {"query"}


def _request(call: OperationCall, spec: GraphQL, *, persisted: bool, full: bool) -> HttpRequest:
    body: dict[str, Any] = {}
    if full:
        body["query"] = spec.document
    if spec.operation_name is not None:
        body["operationName"] = spec.operation_name
    if call.body:
        body["variables"] = dict(call.body)
    if persisted:
        digest = hashlib.sha256(spec.document.encode()).hexdigest()
        body["extensions"] = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    try:
        content = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(
            f"The variables of operation {call.operation_id} cannot be written as JSON: {error}.", field="variables"
        ) from None
    request = HttpRequest("POST", call.url, call.headers, content, call.timeout)
    return request.with_header("Content-Type", "application/json").with_header(
        "Accept", "application/graphql-response+json, application/json;q=0.9"
    )


def _failure(call: OperationCall, spec: GraphQL, response: HttpResponse, *, hash_alone: bool) -> ServicesError | None:
    """The error that the answer stands for; of a status that says enough by itself, None."""
    if response.status in _BY_STATUS or response.status >= 500:
        return None
    try:
        answer = _read(call, response)
    except ResponseInvalid as error:
        return error if 200 <= response.status < 300 else None
    errors = _errors(answer)
    if hash_alone and spec.persisted == "auto" and _marks(answer) & (_NOT_PERSISTED | _NOT_SUPPORTED):
        return None
    if not errors:
        if 200 <= response.status < 300 and "data" not in answer:
            return ResponseInvalid(f"The answer to {call.operation_id} has neither data nor errors.")
        return None
    if spec.partial == "keep" and answer.get("data") is not None and 200 <= response.status < 300:
        return None
    return _error(call, response, answer, errors)


def _error(
    call: OperationCall, response: HttpResponse, answer: Mapping[str, Any], errors: list[Mapping[str, Any]]
) -> ProviderError:
    codes = [code for code in map(_code, errors) if code is not None]
    upstream = next((code for code in codes if code in _THROTTLED or code in _CODES), codes[0] if codes else None)
    details: dict[str, Any] = {
        "upstream_status": response.status,
        "upstream_code": upstream,
        "plugin": call.provider_id,
        "metadata": {"errors": len(errors)},
    }
    said = f"{call.provider_id} answered operation {call.operation_id} with {upstream or 'an error'}"
    if upstream in _THROTTLED:
        wait = _wait(answer)
        when = f" It can be asked in {math.ceil(wait)} s." if wait is not None else ""
        return meant(RateLimited, f"{said}.{when}", retry_after=wait, **details)
    return meant(_CODES.get(upstream or "", ProviderError), f"{said}.", **details)


def _wait(answer: Mapping[str, Any]) -> float | None:
    """Seconds until the query can be paid for (https://shopify.dev/docs/api/usage/limits#graphql-admin-api-rate-limits)."""
    cost = _mapping(_mapping(answer.get("extensions")).get("cost"))
    status = _mapping(cost.get("throttleStatus"))
    numbers = (cost.get("requestedQueryCost"), status.get("currentlyAvailable"), status.get("restoreRate"))
    wanted, available, rate = (
        float(number) if isinstance(number, (int, float)) and not isinstance(number, bool) else None
        for number in numbers
    )
    if wanted is None or available is None or rate is None or not 0 < rate < math.inf:
        return None
    return max(0.0, (wanted - available) / rate)


def _read(call: OperationCall, response: HttpResponse) -> Mapping[str, Any]:
    try:
        answer = json.loads(response.body.decode())
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        kind = response.content_type or "no content type"
        raise ResponseInvalid(
            f"The answer to {call.operation_id} is not GraphQL's ({kind}, {len(response.body)} bytes)."
        )
    return answer


def _errors(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors = answer.get("errors")
    return [_mapping(error) for error in errors] if isinstance(errors, list) else []


def _code(error: Mapping[str, Any]) -> str | None:
    """``extensions.code``, or GitHub's ``type``."""
    code = _mapping(error.get("extensions")).get("code") or error.get("type")
    return code[:80] if isinstance(code, str) else None


def _marks(answer: Mapping[str, Any]) -> set[str]:
    """Codes and messages of the errors, by which servers say that they do not know a document."""
    said: set[str] = set()
    for error in _errors(answer):
        said.update(text for text in (_code(error), error.get("message")) if isinstance(text, str))
    return said


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
