"""Checks of a provider's operations: each record can be built, paged, repeated and shown as it says."""

from __future__ import annotations

import itertools
import re
from typing import Final
from urllib.parse import urlsplit

from ...call_specs import CallSpec, RateBudget, RetryPolicy
from ...errors import BadInput
from ...http import check_header
from ...runtime.page_steps import needed
from ...runtime.values import fitted
from ...specs import ApiSpec, Operation, Param, ProviderSpec
from ..kit import Skipped, check

_PATH: Final = re.compile(r"[^.\s]+(\.[^.\s]+)*")
_KIND: Final = re.compile(r"[a-z][a-z0-9_-]*")
_READS: Final = ("GET", "HEAD", "OPTIONS")
_LONGEST: Final = 24 * 3600.0


def _operations(spec: ProviderSpec) -> tuple[Operation, ...]:
    if not spec.operations:
        raise Skipped("the provider has no operations")
    return spec.operations


def _is_header(name: str) -> bool:
    try:
        check_header(name, "")
    except BadInput:
        return False
    return True


@check("PRV-030", "provider")
async def operation_parameters_can_be_sent(spec: ProviderSpec) -> None:
    """Defaults fit type, choices and limits; names can be sent where they stand; a style is one of its place."""
    for operation in _operations(spec):
        for param in operation.params:
            _check_param(operation, param)
        headers = [param.wire or param.name for param in operation.params if param.where == "header"]
        for name in headers:
            assert _is_header(name), f"{operation.id}: {name!r} is not the name of a header"
        names = [name.lower() for name in headers]
        assert len(names) == len(set(names)), f"{operation.id}: two parameters are the same header"
        queries = [param.wire or param.name for param in operation.params if param.where == "query"]
        assert len(queries) == len(set(queries)), f"{operation.id}: two parameters have the same name in the query"


def _check_param(operation: Operation, param: Param) -> None:
    where = f"{operation.id}: the parameter {param.name!r}"
    if param.default is not None:
        try:
            fitted(operation, param, param.default)
        except BadInput as error:
            raise AssertionError(f"{where}: its default does not fit: {error.message}") from None
    for choice in param.choices:
        items = "string" if isinstance(choice, str) else "integer"
        fits = param.type in (items, "array") or (param.type == "number" and items == "integer")
        assert fits, f"{where} is {param.type} and has the choice {choice!r}"
    limits = [limit for limit in (param.minimum, param.maximum) if limit is not None]
    assert not limits or param.type in ("integer", "number"), f"{where} is {param.type} and has a limit"
    assert limits == sorted(limits), f"{where}: its minimum is above its maximum"
    assert param.wire is None or (param.wire and param.where != "path"), (
        f"{where} cannot have the wire name {param.wire!r}"
    )
    assert param.type != "bytes" or param.where == "raw", f"{where}: only a raw body can be bytes"
    assert not param.nullable or param.where == "body", f"{where} is nullable outside of a body"
    if param.style == "segments":
        assert param.where == "path", f"{where}: only a path has segments"
    elif param.style != "repeat":
        assert param.where == "query", f"{where}: the style {param.style} is for a query"
        assert param.type in ("array", "object"), f"{where} is {param.type} and has the style {param.style}"
    if param.type == "object":
        placed = param.where in ("body", "raw") or param.style == "brackets"
        assert placed, f"{where}: an object can only stand in a body, or in a query with brackets"


@check("PRV-031", "provider")
async def operation_bodies_are_of_one_piece(spec: ProviderSpec) -> None:
    """A body is one raw parameter or made of body parameters, none of which stands inside another; no GET has one."""
    for operation in _operations(spec):
        raw = [param for param in operation.params if param.where == "raw"]
        body = [param for param in operation.params if param.where == "body"]
        assert len(raw) < 2, f"{operation.id} has several raw bodies"
        assert not (raw and body), f"{operation.id} has a raw body beside body parameters"
        assert not (raw and operation.call is not None), f"{operation.id}: its transport kind makes the body, not {raw}"
        if operation.call is None:
            assert operation.method not in ("GET", "HEAD") or not (raw or body), f"{operation.id} is a GET with a body"
        for param in raw:
            kinds = ("object", "array", "string", "bytes")
            assert param.type in kinds, f"{operation.id}: a raw body is one of {', '.join(kinds)}"
        paths = sorted(tuple(param.wire.split(".")) if param.wire else (param.name,) for param in body)
        for path in paths:
            assert all(path), f"{operation.id}: the body path {'.'.join(path)!r} has an empty part"
        for one, other in itertools.pairwise(paths):
            assert other[: len(one)] != one, f"{operation.id}: {'.'.join(other)!r} stands inside {'.'.join(one)!r}"


@check("PRV-032", "provider")
async def paginations_are_complete(spec: ProviderSpec) -> None:
    """A pagination has what its style needs, names parameters that are declared, and paths that lead somewhere."""
    paged = [operation for operation in spec.operations if operation.pagination is not None]
    if not paged:
        raise Skipped("the provider has no lists")
    for operation in paged:
        pagination = operation.pagination
        assert pagination is not None
        lacking = [name for name in needed(pagination) if getattr(pagination, name) is None]
        assert not lacking, f"{operation.id}: the style {pagination.style} needs {', '.join(lacking)}"
        params = {param.name: param for param in operation.params}
        for name in (pagination.param, pagination.size_param):
            assert name is None or name in params, f"{operation.id}: it has no parameter {name!r} to page with"
        if pagination.style in ("offset", "page") and pagination.param is not None:
            kind = params[pagination.param].type
            assert kind == "integer", f"{operation.id}: {pagination.param} is {kind}, not integer"
        for path in (pagination.items, pagination.next, pagination.more):
            assert path is None or _PATH.fullmatch(path), f"{operation.id}: {path!r} is not a dotted path"
        assert operation.answer in ("json", "auto"), f"{operation.id} is a list that is not JSON"


@check("PRV-033", "provider")
async def results_are_paths_of_json(spec: ProviderSpec) -> None:
    """``result`` is a dotted path, and only JSON has one."""
    for operation in _operations(spec):
        if operation.result is not None:
            assert _PATH.fullmatch(operation.result), f"{operation.id}: {operation.result!r} is not a dotted path"
            assert operation.answer in ("json", "auto"), f"{operation.id} has a result inside {operation.answer}"


@check("PRV-034", "provider")
async def idempotency_can_be_kept(spec: ProviderSpec) -> None:
    """Headers for idempotency keys are names of headers, and an operation that is always keyed has one."""
    api = spec.api or ApiSpec(base_url="")
    assert api.idempotency_header is None or _is_header(api.idempotency_header), "api.idempotency_header is no header"
    for operation in _operations(spec):
        name = operation.idempotency_header or api.idempotency_header
        assert name is None or _is_header(name), f"{operation.id}: {name!r} is not the name of a header"
        assert name is not None or not operation.keyed, f"{operation.id} is keyed and has no header for the key"
        said = name is not None and operation.method in _READS and operation.keyed
        assert not said, f"{operation.id}: a {operation.method} needs no key"


@check("PRV-035", "provider")
async def retries_and_budgets_are_sane(spec: ProviderSpec) -> None:
    """A call costs something, and fits each window; delays grow; nothing waits for longer than a day."""
    policies = [("api", spec.api.retry)] if spec.api is not None else []
    budgets = [("api", spec.api.budget)] if spec.api is not None else []
    for operation in _operations(spec):
        assert operation.cost >= 0, f"{operation.id}: the cost is below 0"
        budget = operation.budget or (spec.api.budget if spec.api is not None else RateBudget())
        for window in budget.windows:
            fits = operation.cost <= window.units
            assert fits, f"{operation.id} costs {operation.cost:g} and the budget is {window.units:g}: it never fits"
        policies += [(operation.id, operation.retry)] if operation.retry is not None else []
        budgets += [(operation.id, operation.budget)] if operation.budget is not None else []
    for name, policy in policies:
        _check_policy(name, policy)
    for name, budget in budgets:
        assert budget.bucket.strip(), f"{name}: the budget's bucket has no name"
        lengths = [window.seconds for window in budget.windows]
        assert len(lengths) == len(set(lengths)), f"{name}: two windows of the budget are equally long"


def _check_policy(name: str, policy: RetryPolicy) -> None:
    assert policy.first_delay <= policy.longest_delay, f"{name}: the first delay is longer than the longest"
    assert policy.attempts <= 10, f"{name}: {policy.attempts} attempts would hammer a provider that fails"
    assert policy.longest_wait <= _LONGEST, f"{name}: longest_wait is more than a day"


@check("PRV-036", "provider")
async def transport_kinds_are_named(spec: ProviderSpec) -> None:
    """A ``call`` record names the transport kind that carries it."""
    shaped = [operation for operation in spec.operations if operation.call is not None]
    if not shaped:
        raise Skipped("every operation is plain HTTP")
    for operation in shaped:
        assert isinstance(operation.call, CallSpec), f"{operation.id}: its call has no kind"
        assert _KIND.fullmatch(operation.call.kind), f"{operation.id}: {operation.call.kind!r} is no transport kind"


@check("PRV-037", "provider")
async def documentation_is_https(spec: ProviderSpec) -> None:
    """Links to documentation are https."""
    links = [("docs_url", spec.docs_url), *((one.id, one.docs_url) for one in spec.operations)]
    for name, url in links:
        assert url is None or (urlsplit(url).scheme == "https" and urlsplit(url).hostname), f"{name}: {url!r}"


@check("PRV-038", "provider", level="should")
async def operations_are_documented(spec: ProviderSpec) -> None:
    """Every operation has a summary; every parameter but those of a path says what it is for."""
    for operation in _operations(spec):
        assert operation.summary, f"{operation.id} has no summary"
        assert not operation.summary.endswith("."), f"{operation.id}: the summary ends with a full stop"
        for param in operation.params:
            assert param.help or param.where == "path", f"{operation.id}: the parameter {param.name!r} has no help"


@check("PRV-039", "provider", level="should")
async def writing_takes_a_capability(spec: ProviderSpec) -> None:
    """An operation that changes something has a capability, so that it is decided before it is sent."""
    for operation in _operations(spec):
        writes = operation.method not in _READS and not operation.idempotent and operation.call is None
        assert operation.capability is not None or not writes, f"{operation.id} writes and has no capability"


@check("PRV-040", "provider", level="should")
async def page_sizes_have_a_maximum(spec: ProviderSpec) -> None:
    """The parameter for the size of a page has a maximum: only then does a short page show the end of a list."""
    for operation in _operations(spec):
        pagination = operation.pagination
        if pagination is not None and pagination.size_param is not None:
            sizes = [param for param in operation.params if param.name == pagination.size_param]
            assert all(param.maximum is not None for param in sizes), f"{operation.id}: {pagination.size_param}"
