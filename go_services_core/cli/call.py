"""``go-services call``"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from .options import dry_run
from .output import clean, show_json, show_json_line
from .session import Session, pass_session
from .transfers import told

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..model import OperationResult
    from ..protocols import Transport
    from ..providers import ProviderInstance
    from ..specs import Operation
    from ..testing.recording import Recorder


@click.command()
@click.argument("connection")
@click.argument("operation", required=False)
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter of the operation. May be repeated."
)
@click.option("--method", metavar="METHOD", help="Call an endpoint that no operation describes, with --path.")
@click.option("--path", metavar="PATH", help="Path of the endpoint, below the API's base URL. {name} takes a --param.")
@click.option("--query", multiple=True, metavar="NAME=VALUE", help="Query of the endpoint. May be repeated.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Header of the endpoint's request.")
@click.option(
    "--body",
    metavar="JSON|@FILE",
    help="Body of the endpoint's request: JSON, or a file as it is; its name tells the content type.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Makes the call once: the same key again gives the recorded result, and sends nothing.",
)
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="For everything.")
@click.option("--all-pages", is_flag=True, help="Follow the pages of a list and print one item a line.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Print at most N items of a list.")
@click.option("--page-limit", type=click.IntRange(min=0), metavar="N", help="Ask for at most N pages of a list.")
@click.option("--resume", metavar="TOKEN", help="Go on with a list where an earlier command stopped.")
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
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write requests and answers to FILE, without secrets, for tests of plugins.",
)
@dry_run
@pass_session
def call(
    session: Session,
    connection: str,
    operation: str | None,
    params: tuple[str, ...],
    method: str | None,
    path: str | None,
    query: tuple[str, ...],
    headers: tuple[str, ...],
    body: str | None,
    idempotency_key: str | None,
    deadline: float | None,
    all_pages: bool,
    limit: int | None,
    page_limit: int | None,
    resume: str | None,
    upload: Path | None,
    output: Path | None,
    as_json: bool,
    record: Path | None,
    dry_run: bool,
) -> None:
    """Call OPERATION of a provider over CONNECTION and print what it answers, as JSON.

    Values of parameters are read as the operation declares them; arrays and objects are JSON. `go-services providers
    show PROVIDER OPERATION` tells which there are. A stream prints one item a line, as it comes. A list that --limit or
    --page-limit cut short ends with the token for --resume, on standard error; with --json each line is a page with its
    token.

    \b
    go-services call 0197… repos.list --param per_page=5
    go-services call 0197… repos.list --limit 200
    go-services call 0197… issues.create --param owner=acme --param repo=x --param title=Hello --idempotency-key 1
    go-services call 0197… issues.create --param owner=acme --param repo=x --param title=Hello --dry-run
    go-services call 0197… --method GET --path /repos/{owner}/{repo}/branches --param owner=acme --param repo=x
    go-services call 0197… releases.upload --param name=a.zip --upload a.zip
    """
    from .call_values import body_of, check_fits, content_type_of, of_endpoint, of_operation, pairs

    lists = all_pages or limit is not None or page_limit is not None or resume is not None
    if (operation is None) == (method is None and path is None) or (lists and operation is None):
        raise click.UsageError("Name an OPERATION, or an endpoint by --method and --path; lists are operations.")
    if (method is None) != (path is None):
        raise click.UsageError("An endpoint takes both --method and --path.")
    if sum(one is not None for one in (upload, output)) > (operation is not None and not lists):
        raise click.UsageError("--upload or --output goes with an OPERATION, and each alone.")
    if operation is not None and (query or headers or body is not None):
        raise click.UsageError("--query, --header and --body are for endpoints; an operation takes --param.")
    options = [
        name
        for name, value in {
            "--upload": upload,
            "--output": output,
            "--all-pages": all_pages or None,
            "--limit": limit,
            "--page-limit": page_limit,
            "--resume": resume,
            "--idempotency-key": idempotency_key,
            "--deadline": deadline,
            "--json": as_json or None,
        }.items()
        if value is not None
    ]
    recorders: list[Recorder] = []

    def recorder(transport: Transport) -> Transport:
        from ..testing.recording import Recorder

        recorders.append(made := Recorder(transport))
        return made

    with session.runtime(wrap_transport=recorder if record is not None else None) as runtime, ExitStack() as ending:
        if record is not None and not dry_run:
            ending.callback(lambda: recorders[-1].save(record))  # also of a call that fails
        provider = _provider(runtime, runtime.connection(connection).provider_id)
        if operation is not None:
            check_fits(provider.operation(operation), options, sends=not dry_run)
            given = of_operation(params, provider.operation(operation))
            endpoint: dict[str, Any] = {}
        else:
            given = of_endpoint(params, query)
            endpoint = {
                "method": method,
                "path": path,
                "body": body_of(body),
                "headers": content_type_of(body, pairs(headers, "--header")) or None,
            }
        if dry_run:
            _show_request(runtime, provider, connection, operation, given, endpoint, idempotency_key, as_json)
        elif operation is not None and _is_stream(provider.operation(operation)):
            for item in runtime.stream(connection, operation, given, limit=limit):
                show_json_line(attrs.asdict(item) if attrs.has(type(item)) else item)
        elif lists and operation is not None:
            pages = runtime.pages(
                connection, operation, given, limit=limit, max_pages=page_limit, resume=resume, deadline=deadline
            )
            _show_pages(pages, as_json)
        else:
            if operation is not None and upload is not None:
                result = runtime.upload(
                    connection,
                    operation,
                    upload,
                    given,
                    progress=told("sent"),
                    idempotency_key=idempotency_key,
                    deadline=deadline,
                )
            elif operation is not None and output is not None:
                result = runtime.download(
                    connection, operation, output, given, progress=told("received"), deadline=deadline
                )
            else:
                result = runtime.execute(
                    connection, operation, given, **endpoint, idempotency_key=idempotency_key, deadline=deadline
                )
            _show_result(result, as_json)


def _is_stream(operation: Operation) -> bool:
    return operation.call is not None and operation.call.kind == "stream"


def _show_result(result: OperationResult, as_json: bool) -> None:
    data = _plain(result.data)
    if as_json:
        show_json(
            {
                "status": result.status,
                "attempts": result.attempts,
                "replayed": result.replayed,
                "idempotency_key": result.idempotency_key,
                "request_id": result.request_id,
                "data": data,
            }
        )
        return
    show_json(data)
    if result.replayed:
        click.echo("note: nothing was sent: this is the recorded result of the call with this key", err=True)


def _plain(data: Any) -> Any:
    """Bytes as base64: JSON has none."""
    if not isinstance(data, bytes):
        return data
    from base64 import b64encode

    return {"base64": b64encode(data).decode()}


def _show_pages(pages: Any, as_json: bool) -> None:
    resume = None
    for page in pages:
        resume = page.resume
        if as_json:
            show_json_line({"items": page.items, "resume": resume, "request_id": page.request_id})
            continue
        for item in page.items:
            show_json_line(item)
    if resume is not None and not as_json:
        click.echo(f"note: there is more; go on with --resume {resume}", err=True)


def _show_request(
    runtime: BlockingRuntime,
    provider: ProviderInstance,
    connection: str,
    operation: str | None,
    given: Mapping[str, Any],
    endpoint: Mapping[str, Any],
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """The final request without its credential, and whether it would be permitted. Nothing is sent."""
    from ..live_secrets import masked
    from ..runtime.endpoints import endpoint as described
    from ..runtime.requests import build, compile_plan, parts

    params: Mapping[str, Any] = given
    if operation is not None:
        plan = compile_plan(provider, provider.operation(operation))
    else:
        plan, params = described(
            provider,
            endpoint["method"],
            endpoint["path"],
            given,
            body=endpoint["body"],
            headers=endpoint["headers"] or {},
        )
    body: Any = None
    if plan.operation.call is not None:
        asked = parts(plan, params, idempotency_key=idempotency_key, timeout=0)
        url, headers, body = asked.url, asked.headers, dict(asked.body)
    else:
        request = build(plan, params, idempotency_key=idempotency_key, timeout=None)
        url, headers = request.url, request.headers
        if isinstance(request.body, bytes):
            body = request.body.decode("utf-8", "replace")
    capability = plan.operation.capability
    decision = runtime.can(connection, capability) if capability is not None else None
    refused = decision.reason if decision is not None and not decision.allowed else None
    if as_json:
        told = {"method": plan.method, "url": url, "headers": [list(pair) for pair in headers], "body": body}
        show_json({**told, "capability": capability, "permitted": refused is None, "reason": refused})
        return
    click.echo(f"Would send, with the credential of {connection}:" if refused is None else "Would be refused:")
    for line in (f"{plan.method} {url}", *(f"{name}: {value}" for name, value in headers)):
        click.echo(f"  {clean(line)}")
    if body:
        click.echo(f"\n  {clean(masked(str(body)))}")
    if refused is not None:
        click.echo(f"note: it needs {capability}: {clean(refused)}", err=True)


def _provider(runtime: BlockingRuntime, provider_id: str) -> ProviderInstance:
    from ..errors import ProviderNotFound

    known = runtime.providers()
    if provider_id not in known:
        raise ProviderNotFound.named("provider", provider_id, known, hint="The connection's plugin is not installed.")
    return known[provider_id]
