"""``go-services providers show PROVIDER OPERATION``: one operation, in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .output import fields, table

if TYPE_CHECKING:
    from ..call_specs import RateBudget
    from ..specs import ApiSpec, Operation, Param


def is_required(param: Param) -> bool:
    """Whether a call must give it."""
    return (param.required or param.where == "path") and param.default is None


def as_table(operation: Operation, api: ApiSpec | None) -> dict[str, Any]:
    """What the record says, for JSON."""
    pagination = operation.pagination
    return {
        "id": operation.id,
        "summary": operation.summary,
        "method": operation.method,
        "path": operation.path,
        "capability": operation.capability,
        "params": [_param(param) for param in operation.params],
        "paginated": pagination is not None,
        "pagination": _present(pagination) if pagination is not None else None,
        "answer": operation.answer,
        "result": operation.result,
        "idempotency_header": operation.idempotency_header or (api.idempotency_header if api is not None else None),
        "keyed": operation.keyed,
        "idempotent": operation.idempotent,
        "cost": operation.cost,
        "budget": (operation.budget or api.budget).bucket if api is not None else None,
        "transport": operation.call.kind if operation.call is not None else "rest",
        "docs_url": operation.docs_url,
    }


def show(operation: Operation, api: ApiSpec | None) -> None:
    """Print it for people."""
    told = as_table(operation, api)
    harmless = operation.idempotent
    if harmless is None:
        harmless = operation.method not in ("POST", "PATCH")
    fields(
        [
            ("operation", operation.id),
            ("summary", operation.summary),
            ("request", f"{operation.method} {operation.path}"),
            ("capability", operation.capability),
            ("answer", operation.answer + (f", the part at {operation.result}" if operation.result else "")),
            ("pages", _pages(told["pagination"])),
            ("repeating it", "does nothing more" if harmless else "may do it twice"),
            ("idempotency key", _key(operation, told["idempotency_header"], harmless=harmless)),
            ("cost", f"{operation.cost:g} of the budget {told['budget']}" if told["budget"] else f"{operation.cost:g}"),
            ("rate limit", _windows(operation.budget or api.budget) if api is not None else None),
            ("transport", told["transport"]),
            ("docs", operation.docs_url),
        ]
    )
    click.echo()
    rows = [
        (param.name, param.where, param.type, "yes" if is_required(param) else "", _limits(param), param.help)
        for param in operation.params
    ]
    table(("parameter", "in", "type", "required", "values", "help"), rows, empty="No parameters.", whole=2)


def _windows(budget: RateBudget) -> str | None:
    said = " and ".join(f"{window.units:.10g} in {window.seconds:.10g} s" for window in budget.windows)
    return f"{said}, for each {budget.per}" if said else None


def _key(operation: Operation, header: str | None, *, harmless: bool) -> str | None:
    if header is None:
        return None if harmless else "with --idempotency-key, kept here and not sent"
    return f"{'always' if operation.keyed else 'with --idempotency-key'}, in {header}"


def _present(record: Any) -> dict[str, Any]:
    import attrs

    return {name: value for name, value in attrs.asdict(record).items() if value is not None}


def _param(param: Param) -> dict[str, Any]:
    return {
        "name": param.name,
        "where": param.where,
        "type": param.type,
        "required": is_required(param),
        "choices": list(param.choices),
        "minimum": param.minimum,
        "maximum": param.maximum,
        "default": param.default,
        "nullable": param.nullable,
        "wire": param.wire or param.name,
        "style": param.style,
        "help": param.help,
    }


def _pages(pagination: dict[str, Any] | None) -> str | None:
    if pagination is None:
        return None
    shown = {name: value for name, value in pagination.items() if name not in ("style", "first")}
    return ", ".join([pagination["style"], *(f"{name} {value}" for name, value in shown.items())])


def _limits(param: Param) -> str:
    said = [", ".join(map(str, param.choices))] if param.choices else []
    said += [
        f"{word} {limit:g}"
        for word, limit in (("at least", param.minimum), ("at most", param.maximum))
        if limit is not None
    ]
    if param.default is not None:
        said.append(f"default {param.default}")
    if param.nullable:
        said.append("or null")
    return "; ".join(said)
