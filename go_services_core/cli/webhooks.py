"""``go-services webhooks``: verifying deliveries, those that were accepted, and having them handled once more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from ..counted import counted
from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run, moment
from .output import clean, fields, show_json, table
from .session import Session, pass_session
from .webhooks_verify import verify

if TYPE_CHECKING:
    from datetime import datetime

    from ..deliveries import Delivery, DeliveryStatus, Redelivered
    from ..http import InboundRequest

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES = ("pending", "processing", "retry_ready", "processed", "superseded", "dead", "quarantined", "dropped")
_SECRET_NAMES = ("auth", "cookie", "cred", "hmac", "key", "pass", "secret", "sign", "token")
"""What a header has in its name that may hold a secret."""
_PROGRESS = 100


@click.group(cls=Group)
def webhooks() -> None:
    """Verify, list, show and replay deliveries.

    \b
    go-services webhooks verify delivery.http --provider github
    go-services webhooks dead --provider github
    go-services webhooks replay --provider github --since 2h
    """


def _chosen(command: F) -> F:
    """The filters of deliveries."""
    for option in (
        click.option("--until", metavar="TIME", callback=moment, help="Received before then, or as long ago."),
        click.option("--since", metavar="TIME", callback=moment, help="Received then or later: 2026-07-01T12:00Z, 2h."),
        click.option("--event", help="Only of this event, as the provider names it."),
        click.option("--connection", help="Only of this connection."),
        click.option("--provider", help="Only of this provider."),
    ):
        command = option(command)
    return command


def _paged(command: F) -> F:
    for option in (
        click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most."),
        click.option("--after", metavar="ID", help="Begin after this delivery."),
    ):
        command = option(command)
    return command


@webhooks.command("list")
@_chosen
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@_paged
@as_json
@pass_session
def list_deliveries(session: Session, /, status: DeliveryStatus | None, as_json: bool, **chosen: Any) -> None:
    """List deliveries by id, which is by the time they came, a page at a time."""
    _show_page(session, as_json, status=status, **chosen)


@webhooks.command()
@_chosen
@_paged
@as_json
@pass_session
def dead(session: Session, /, as_json: bool, **chosen: Any) -> None:
    """List deliveries that were given up, themselves or at one of their handlers."""
    _show_page(session, as_json, dead=True, **chosen)


def _show_page(
    session: Session, as_json: bool, *, provider: str | None, connection: str | None, **filters: Any
) -> None:
    with session.runtime() as runtime:
        page = runtime.deliveries(provider_id=provider, connection_id=connection, **filters)
    if as_json:
        show_json({"deliveries": [_as_fields(one) for one in page.items], "next": page.next})
        return
    table(
        ("id", "received", "provider", "event", "status", "handlers"),
        ((one.id, one.received_at, one.provider_id, one.event, one.status, _handlers(one)) for one in page.items),
        empty="There is no such delivery.",
        whole=1,
    )
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


def _handlers(one: Delivery) -> str:
    counts: dict[str, int] = {}
    for row in one.handlers:
        counts[row.status] = counts.get(row.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _as_fields(one: Delivery) -> dict[str, Any]:
    shown = attrs.asdict(one, recurse=False)
    del shown["fence"]
    shown["handlers"] = [
        {name: value for name, value in attrs.asdict(row).items() if name != "fence"} for row in one.handlers
    ]
    return shown


@webhooks.command()
@click.argument("delivery")
@click.option(
    "--body",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True, path_type=Path),
    help="Write the body into this new file; - writes it, and nothing else, to standard output.",
)
@as_json
@pass_session
def show(session: Session, delivery: str, body: Path | None, as_json: bool) -> None:
    """Show one delivery: what was received, and what became of it at each handler.

    Headers that may hold a secret are masked. The body is not shown; --body writes it into a file that others cannot
    read.
    """
    with session.runtime() as runtime:
        found = runtime.delivery(delivery)
        request = runtime.delivery_request(delivery)
    if body is not None and str(body) == "-":
        click.echo(request.body, nl=False)
        return
    if body is not None:
        _write(body, request.body)
    headers = [(name, _header(name, value)) for name, value in request.headers]
    line = _request_line(request)
    if as_json:
        received = {"request": line, "headers": headers, "body_bytes": len(request.body)}
        show_json({**_as_fields(found), **received})
        return
    skipped = ("handlers", "scope")
    fields(
        [
            *((name.replace("_", " "), value) for name, value in _as_fields(found).items() if name not in skipped),
            ("scope", found.scope),
            ("request", line),
            *((f"  {name}", value) for name, value in headers),
            ("body", f"{len(request.body)} bytes"),
        ]
    )
    click.echo()
    table(
        ("handler", "status", "attempts", "next", "error"),
        ((row.handler, row.status, row.attempts, row.next_attempt_at, row.error) for row in found.handlers),
        empty="No handler has it.",
        whole=1,
        text=True,
    )


def _request_line(request: InboundRequest) -> str:
    path, mark, query = request.target.partition("?")
    return f"{request.method} {path}{'?…' if mark and query else ''}"


def _header(name: str, value: str) -> str:
    return "********" if any(part in name.lower() for part in _SECRET_NAMES) else value


def _write(path: Path, body: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(body)


@webhooks.command()
@click.argument("delivery", required=False)
@_chosen
@click.option("--all", "everything", is_flag=True, help="All that were given up, where no filter is given.")
@click.option("--handler", metavar="NAME", help="Only at this handler.")
@click.option("--again", is_flag=True, help="Also where it was handled: handlers see the same event a second time.")
@dry_run
@as_json
@pass_session
def replay(
    session: Session,
    delivery: str | None,
    provider: str | None,
    connection: str | None,
    event: str | None,
    since: datetime | None,
    until: datetime | None,
    everything: bool,
    handler: str | None,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Have DELIVERY, or those that the filters choose, handled once more where they were given up.

    Whoever replays the same at the same time does not replay it twice.
    """
    filters = {"provider_id": provider, "connection_id": connection, "event": event, "since": since, "until": until}
    filtered = any(value is not None for value in filters.values())
    if (delivery is not None) + (filtered or everything) != 1:
        raise click.UsageError("Say which: a DELIVERY, filters, or --all.")
    if again and everything and not filtered:
        raise click.UsageError("--again needs a DELIVERY or filters.")

    def told(done: Redelivered) -> None:
        if done.seen % _PROGRESS == 0:
            click.echo(counted(done.seen, "delivery", "deliveries"), err=True)

    with session.runtime() as runtime:
        done = runtime.replay(
            delivery,
            **filters,  # type: ignore[arg-type]
            handler=handler,
            again=again,
            dry_run=dry_run,
            progress=None if as_json else told,
        )
    if as_json:
        show_json({"dry_run": dry_run, **attrs.asdict(done)})
        return
    verb = "Would replay" if dry_run else "Replayed"
    what = f"{counted(done.handlers, 'handler')} and {counted(done.deliveries, 'delivery', 'deliveries')}"
    click.echo(f"{verb} {what} of {done.seen} that {'was' if done.seen == 1 else 'were'} looked at.")
    if delivery is not None and not (done.handlers or done.deliveries or done.changed_meanwhile or again):
        click.echo("Nothing of it is dead; --again has it handled once more.")
    if done.changed_meanwhile:
        verb = "was" if done.changed_meanwhile == 1 else "were"
        click.echo(f"{done.changed_meanwhile} {verb} replayed, or went on elsewhere, meanwhile.")


@webhooks.command()
@click.argument("delivery")
@click.option("--drop", is_flag=True, help="Give it up for good instead.")
@dry_run
@as_json
@pass_session
def release(session: Session, delivery: str, drop: bool, dry_run: bool, as_json: bool) -> int:
    """Have a quarantined delivery handled: one that came with an id which another body had before.

    Compare both with `webhooks show --body` first. Exits with 1 where it is not quarantined.
    """
    with session.runtime() as runtime:
        end = runtime.drop_delivery if drop else runtime.release_delivery
        changed = end(delivery, dry_run=dry_run)
    what = "dropped" if drop else "released"
    if as_json:
        show_json({"dry_run": dry_run, "id": delivery, what: changed})
    elif changed:
        click.echo(f"{'Would be' if dry_run else 'It is'} {what}: {clean(delivery)}")
    else:
        click.echo("It is not quarantined; nothing was changed.")
    return OK if changed else FAILED


webhooks.add_command(verify)
