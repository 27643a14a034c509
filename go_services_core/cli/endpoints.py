"""``go-services endpoints``: where customers get the application's events, and what became of the messages."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..counted import counted
from . import options
from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run, moment
from .output import fields, show_json, show_json_line, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from ..blocking import BlockingRuntime
    from ..endpoints import Endpoint, EndpointStatus, NewEndpoint
    from ..model import JobStatus, Scope

_STATUSES = ("active", "paused", "disabled")
_MESSAGES = ("queued", "running", "succeeded", "failed")
_DAY = "1d"


@click.group(cls=Group)
def endpoints() -> None:
    """Add, show, change and test endpoints of outgoing webhooks, and send dead messages again.

    \b
    go-services endpoints add https://customer.example/hooks --scope org:o1
    go-services endpoints messages --status failed
    """


@endpoints.command()
@click.argument("url")
@options.scope(required=False, help="Whose events it gets.")
@click.option("--event", "events", multiple=True, default=("*",), help="Event or pattern that it gets; repeatable.")
@click.option("--description", default="", help="For people.")
@click.option("--ordered", is_flag=True, help="Send one message at a time, in the order of the events.")
@dry_run
@as_json
@pass_session
def add(
    session: Session,
    url: str,
    scope: Scope | None,
    events: tuple[str, ...],
    description: str,
    ordered: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send events to URL from now on. Its secret is shown once: on a terminal, or as JSON.

    Without --scope it gets the events of every scope.
    """
    if not dry_run:
        _require_a_reader(as_json)
    with session.runtime() as runtime:
        added = runtime.add_endpoint(
            url, scope=scope, events=events, description=description, ordered=ordered, dry_run=dry_run
        )
    if dry_run:
        if as_json:
            show_json({"dry_run": True, "endpoint": {**as_fields(added.endpoint), "id": None}})
        else:
            click.echo(f"Would send {', '.join(events)} to {url}.")
        return
    _show_secret(added, as_json)


@endpoints.command("list")
@options.scope(required=False, help="Whose events it gets.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option("--after", metavar="ID", help="Begin after this endpoint.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_endpoints(
    session: Session, scope: Scope | None, status: EndpointStatus | None, after: str | None, limit: int, as_json: bool
) -> None:
    """List endpoints by id, a page at a time."""
    with session.runtime() as runtime:
        page = runtime.endpoints(scope=scope, status=status, after=after, limit=limit)
    if as_json:
        show_json({"endpoints": [as_fields(one) for one in page.items], "next": page.next})
        return
    rows = [(one.id, one.url, one.scope, one.events, one.status, one.failures) for one in page.items]
    headers = ("id", "url", "scope", "events", "status", "failures")
    table(headers, rows, empty="There is no such endpoint.", whole=1)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


@endpoints.command()
@click.argument("endpoint")
@as_json
@pass_session
def show(session: Session, endpoint: str, as_json: bool) -> None:
    """Show one endpoint and how it does; never its secrets."""
    with session.runtime() as runtime:
        _print(runtime.endpoint(endpoint), as_json)


@endpoints.command()
@click.argument("endpoint")
@click.option("--reason", default="go-services command", show_default=True, help="Is kept, and goes into the event.")
@dry_run
@as_json
@pass_session
def pause(session: Session, endpoint: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Let the messages of ENDPOINT wait until it is resumed."""
    with session.runtime() as runtime:
        if _would(runtime, endpoint, "pause", dry_run, as_json):
            return
        _print(runtime.pause_endpoint(endpoint, reason=reason), as_json)


@endpoints.command()
@click.argument("endpoint")
@dry_run
@as_json
@pass_session
def resume(session: Session, endpoint: str, dry_run: bool, as_json: bool) -> None:
    """Send to ENDPOINT again, after it was paused or disabled."""
    with session.runtime() as runtime:
        if _would(runtime, endpoint, "resume", dry_run, as_json):
            return
        _print(runtime.resume_endpoint(endpoint), as_json)


@endpoints.command()
@click.argument("endpoint")
@click.option(
    "--overlap",
    callback=options.seconds,
    default=_DAY,
    show_default=True,
    metavar="TIME",
    help="How long the former secret signs as well: 1d, 12h, 30m or 0s.",
)
@dry_run
@as_json
@pass_session
def rotate(session: Session, endpoint: str, overlap: float, dry_run: bool, as_json: bool) -> None:
    """Give ENDPOINT a new secret, which is shown once: on a terminal, or as JSON."""
    if not dry_run:
        _require_a_reader(as_json)
    with session.runtime() as runtime:
        if _would(runtime, endpoint, "rotate the secret of", dry_run, as_json):
            return
        rotated = runtime.rotate_endpoint_secret(endpoint, overlap=overlap)
    _show_secret(rotated, as_json)


@endpoints.command()
@click.argument("endpoint")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run
@as_json
@pass_session
def remove(session: Session, endpoint: str, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Delete ENDPOINT with its secrets; messages that wait for it are not sent."""
    with session.runtime() as runtime:
        if _would(runtime, endpoint, "remove", dry_run, as_json):
            return OK
        found = runtime.endpoint(endpoint)
        if not yes and not click.confirm(f"Remove the endpoint {found.url}?", err=True):
            click.echo("Nothing was changed.", err=True)
            return FAILED
        runtime.remove_endpoint(endpoint)
    if as_json:
        show_json({"removed": as_fields(found)})
    else:
        click.echo(f"Removed {found.id}.")
    return OK


@endpoints.command()
@click.argument("endpoint")
@dry_run
@as_json
@pass_session
def test(session: Session, endpoint: str, dry_run: bool, as_json: bool) -> int:
    """Send ENDPOINT one message of the type endpoint.test now, and tell its answer."""
    with session.runtime() as runtime:
        if _would(runtime, endpoint, "test", dry_run, as_json):
            return OK
        answer = runtime.test_endpoint(endpoint)
    if as_json:
        show_json({"ok": answer.ok, "status": answer.status, "detail": answer.detail})
    else:
        click.echo(f"The endpoint answered {answer.status}." if answer.ok else answer.detail)
    return OK if answer.ok else FAILED


@endpoints.command()
@click.argument("endpoint", required=False)
@click.option("--status", type=click.Choice(_MESSAGES), help="Only with this status; failed is dead.")
@click.option("--since", metavar="TIME", callback=moment, help="Made then or later: 2026-07-01T12:00Z, 2h.")
@click.option("--until", metavar="TIME", callback=moment, help="Made before then, or as long ago.")
@click.option("--after", metavar="ID", help="Begin after this message.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many are looked at.")
@as_json
@pass_session
def messages(
    session: Session,
    endpoint: str | None,
    status: JobStatus | None,
    since: datetime | None,
    until: datetime | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List messages, those for ENDPOINT or all, a page at a time."""
    with session.runtime() as runtime:
        page = runtime.endpoint_messages(endpoint, status=status, since=since, until=until, after=after, limit=limit)
    names = ("id", "endpoint_id", "event", "status", "attempts", "created_at", "error")
    if as_json:
        found = [{name: getattr(one, name) for name in ("message_id", *names)} for one in page.items]
        show_json({"messages": found, "next": page.next})
        return
    rows = [[getattr(one, name) for name in names] for one in page.items]
    headers = ("id", "endpoint", "event", "status", "attempts", "since", "error")
    table(headers, rows, empty="No such message here.", whole=1, text=True)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


@endpoints.command()
@click.argument("endpoint", required=False)
@click.option("--message", metavar="ID", help="Only this message, whichever endpoint it is for.")
@click.option("--since", metavar="TIME", callback=moment, help="Made then or later: 2026-07-01T12:00Z, 2h.")
@click.option("--until", metavar="TIME", callback=moment, help="Made before then, or as long ago.")
@dry_run
@as_json
@pass_session
def replay(
    session: Session,
    endpoint: str | None,
    message: str | None,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send dead messages again: those of ENDPOINT, or the one that --message names. Of two operators, one does."""
    if (endpoint is None) == (message is None) or (message is not None and (since or until or dry_run)):
        _usage("Name an ENDPOINT, with --since, --until and --dry-run as you like, or one --message.")
    with session.runtime() as runtime:
        if message is not None:
            count = int(runtime.replay_endpoint_message(message))
        else:
            assert endpoint is not None
            count = runtime.replay_endpoint_messages(endpoint, since=since, until=until, dry_run=dry_run)
    if as_json:
        show_json({"dry_run": dry_run, "messages": count})
    else:
        click.echo(f"{'Would replay' if dry_run else 'Replayed'} {counted(count, 'dead message')}.")


def as_fields(endpoint: Endpoint) -> dict[str, Any]:
    """What is shown of an endpoint."""
    names = (
        "id",
        "url",
        "scope",
        "events",
        "description",
        "ordered",
        "status",
        "status_reason",
        "failures",
        "failing_since",
        "open_until",
        "created_at",
        "updated_at",
    )
    return {name: getattr(endpoint, name) for name in names}


def _print(endpoint: Endpoint, as_json: bool) -> None:
    if as_json:
        show_json({"endpoint": as_fields(endpoint)})
    else:
        fields((name.replace("_", " "), value) for name, value in as_fields(endpoint).items())


def _would(runtime: BlockingRuntime, endpoint: str, what: str, dry_run: bool, as_json: bool) -> bool:
    """Say what would be done, where nothing is to be done."""
    if not dry_run:
        return False
    found = runtime.endpoint(endpoint)
    if as_json:
        show_json({"dry_run": True, "endpoint": as_fields(found)})
    else:
        click.echo(f"Would {what} {found.id} ({found.url}, {found.status}).")
    return True


def _require_a_reader(as_json: bool) -> None:
    if not as_json and not sys.stdout.isatty():
        _usage("The secret is shown once, on a terminal. Give --json where a program is to read it.")


def _usage(message: str) -> NoReturn:
    raise click.UsageError(message, click.get_current_context())


def _show_secret(made: NewEndpoint, as_json: bool) -> None:
    secret = made.secret.reveal()
    if as_json:
        show_json_line({"endpoint": as_fields(made.endpoint), "secret": secret}, with_secrets=True)
        return
    _print(made.endpoint, as_json)
    click.echo(f"secret: {secret}")
    click.echo("It is not shown again.")
