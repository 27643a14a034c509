"""``go-services call``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import dry_run
from .output import show_json, show_json_line
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..providers import ProviderInstance
    from ..specs import Operation


@click.command()
@click.argument("connection")
@click.argument("operation")
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter of the operation. May be repeated."
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Makes the call once: the same key again gives the recorded result, and sends nothing.",
)
@click.option("--all-pages", is_flag=True, help="Follow the pages of a list and print one item a line.")
@click.option("--json", "as_json", is_flag=True, help="Print status, attempts, request id and key around the data.")
@dry_run
@pass_session
def call(
    session: Session,
    connection: str,
    operation: str,
    params: tuple[str, ...],
    idempotency_key: str | None,
    all_pages: bool,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Call OPERATION of a provider over CONNECTION and print what it answers, as JSON.

    Values of parameters are read as the operation declares them; arrays and objects are JSON.

    \b
    go-services call 0197… repos.list --param per_page=5
    go-services call 0197… issues.create --param owner=acme --param repo=x --param title=Hello --idempotency-key 1
    """
    with session.runtime() as runtime:
        provider = _provider(runtime, runtime.connection(connection).provider_id)
        known = provider.operation(operation)
        given = _read(params, known)
        if dry_run:
            click.echo(f"Would call {known.method} {known.path} of {provider.id} with {given or 'no parameters'}.")
        elif all_pages:
            for item in runtime.paginate(connection, operation, given):
                show_json_line(item)
        else:
            result = runtime.execute(connection, operation, given, idempotency_key=idempotency_key)
            if as_json:
                show_json(
                    {
                        "status": result.status,
                        "attempts": result.attempts,
                        "replayed": result.replayed,
                        "idempotency_key": result.idempotency_key,
                        "request_id": result.request_id,
                        "data": result.data,
                    }
                )
            else:
                show_json(result.data)
                if result.replayed:
                    click.echo("Nothing was sent: this is the recorded result of the call with this key.", err=True)


def _provider(runtime: BlockingRuntime, provider_id: str) -> ProviderInstance:
    from ..errors import ProviderNotFound

    known = runtime.providers()
    if provider_id not in known:
        raise ProviderNotFound.named("provider", provider_id, known, hint="The connection's plugin is not installed.")
    return known[provider_id]


def _read(params: tuple[str, ...], operation: Operation) -> dict[str, Any]:
    from ..errors import UnknownParameter, nearest

    types = {param.name: param.type for param in operation.params}
    given: dict[str, Any] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint="--param")
        if name in given:
            raise click.BadParameter(f"{name} is given twice", param_hint="--param")
        if name not in types:
            near = nearest(name, types)
            raise UnknownParameter(
                f"{operation.id} has no parameter {name!r}.",
                hint=f"Did you mean {near!r}?" if near else f"It takes {', '.join(types) or 'none'}.",
                field=name,
            )
        given[name] = _value(name, value, types[name])
    return given


def _value(name: str, text: str, kind: str) -> Any:
    import json

    if kind == "string":
        return text
    expected: dict[str, tuple[type, ...]] = {
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "array": (list,),
        "object": (dict,),
    }
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, expected[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise click.BadParameter(f"{name} is {kind}, and {text!r} is not (written as in JSON)", param_hint="--param")
    return value
