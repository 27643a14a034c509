"""``go-services call``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from .options import dry_run
from .output import show_json, show_json_line
from .session import Session, pass_session
from .transfers import told

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..model import OperationResult
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
@click.option(
    "--upload",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File that the operation sends.",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="File that the answer goes to."
)
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
    upload: Path | None,
    output: Path | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Call OPERATION of a provider over CONNECTION and print what it answers, as JSON.

    Values of parameters are read as the operation declares them; arrays and objects are JSON. A stream prints one item
    a line, as it comes.

    \b
    go-services call 0197… repos.list --param per_page=5
    go-services call 0197… issues.create --param owner=acme --param repo=x --param title=Hello --idempotency-key 1
    go-services call 0197… releases.upload --param name=a.zip --upload a.zip
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
        elif known.call is not None and known.call.kind == "stream":
            for item in runtime.stream(connection, operation, given):
                show_json_line(attrs.asdict(item) if attrs.has(type(item)) else item)
        else:
            result = _result(runtime, connection, operation, given, upload, output, idempotency_key)
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


def _result(
    runtime: BlockingRuntime,
    connection: str,
    operation: str,
    given: dict[str, Any],
    upload: Path | None,
    output: Path | None,
    idempotency_key: str | None,
) -> OperationResult:
    if upload is not None and output is not None:
        raise click.UsageError("--upload and --output exclude each other")
    if upload is not None:
        return runtime.upload(
            connection, operation, upload, given, progress=told("sent"), idempotency_key=idempotency_key
        )
    if output is not None:
        return runtime.download(connection, operation, output, given, progress=told("received"))
    return runtime.execute(connection, operation, given, idempotency_key=idempotency_key)


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
