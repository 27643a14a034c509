"""``go-services outbox``: how far handlers are, and what to do with what they did not handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import click

from ..counted import counted
from .exits import OK
from .lazy import Group
from .options import as_json, dry_run, moment
from .output import show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from datetime import datetime

    from ..model import QueueItem
    from ..outbox import Replayed

_STATUSES = ("pending", "processing", "retry_ready", "delivered", "dead")


def _filters(command: Any) -> Any:
    for option in (
        click.option("--handler", help="Only of this handler."),
        click.option("--event", help="Only of this event, by its name."),
        click.option("--provider", help="Only of this provider."),
        click.option("--since", metavar="TIME", callback=moment, help="Only events from then on: a time, or 90m ago."),
        click.option("--until", metavar="TIME", callback=moment, help="Only events from before then."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def outbox() -> None:
    """Show how far handlers are, list what they were given, and replay what is dead.

    \b
    go-services outbox status
    go-services outbox replay --handler app.mail --since 2d
    """


@outbox.command()
@as_json
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Show each handler: what waits, what is tried again, what is dead, and how far behind it is.

    One that no process has any more has an old SEEN; `outbox forget` removes it with what waits for it.
    """
    with session.runtime() as runtime:
        found = runtime.outbox_status()
    if as_json:
        show_json(attrs.asdict(found))
        return
    if found.waiting:
        waiting = counted(found.waiting, "event")
        click.echo(f"{waiting} not handed out yet, the first of {found.oldest_at:%Y-%m-%d %H:%M:%S}.")
    rows = [
        (
            one.name,
            one.pattern,
            one.pending,
            one.retry,
            one.running,
            one.dead,
            f"{one.lag:.0f} s",
            one.seen_at,
        )
        for one in found.handlers
    ]
    headers = ("handler", "events", "pending", "retry", "running", "dead", "lag", "seen")
    table(headers, rows, empty="No handler was ever registered.", whole=1)


@outbox.command("list")
@_filters
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option("--after", metavar="ID", help="Begin after this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_outbox(
    session: Session,
    handler: str | None,
    event: str | None,
    provider: str | None,
    since: datetime | None,
    until: datetime | None,
    status: str | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List events for each of their handlers by id, a page at a time."""
    _show(session, handler, event, provider, since, until, status, after, limit, as_json)


@outbox.command()
@_filters
@click.option("--after", metavar="ID", help="Begin after this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def dead(
    session: Session,
    handler: str | None,
    event: str | None,
    provider: str | None,
    since: datetime | None,
    until: datetime | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was set aside, with the reason."""
    _show(session, handler, event, provider, since, until, "dead", after, limit, as_json)


def _show(
    session: Session,
    handler: str | None,
    event: str | None,
    provider: str | None,
    since: datetime | None,
    until: datetime | None,
    status: str | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    with session.runtime() as runtime:
        page = runtime.outbox(
            status=status,
            handler=handler,
            event=event,
            provider_id=provider,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )
    if as_json:
        show_json({"deliveries": [_fields(one) for one in page.items], "next": page.next})
        return
    rows = [(one.id, one.name, one.status, one.attempts, one.created_at, one.error) for one in page.items]
    table(
        ("id", "event", "status", "attempts", "since", "error"),
        rows,
        empty="There is no such delivery.",
        whole=1,
        text=True,
    )
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


def _fields(one: QueueItem) -> dict[str, Any]:
    return {
        "id": one.id,
        "event": one.name,
        "handler": one.handler,
        "provider_id": one.provider_id,
        "status": one.status,
        "attempts": one.attempts,
        "error": one.error,
        "created_at": one.created_at,
    }


@outbox.command()
@click.argument("ids", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="All that is dead.")
@click.option("--again", is_flag=True, help="Also what was delivered: its handlers run once more.")
@dry_run
@as_json
@pass_session
def replay(
    session: Session,
    ids: tuple[str, ...],
    handler: str | None,
    event: str | None,
    provider: str | None,
    since: datetime | None,
    until: datetime | None,
    everything: bool,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make dead deliveries due again, of the events or deliveries IDS, or those that match.

    What changed since it was looked at is left alone: of two operators one replays it.
    """

    def told(so_far: Replayed) -> None:
        if so_far.found:
            click.echo(f"{so_far.replayed} of {so_far.found} …", err=True)

    with session.runtime() as runtime:
        done = runtime.replay_events(
            ids,
            handler=handler,
            event=event,
            provider_id=provider,
            since=since,
            until=until,
            everything=everything,
            again=again,
            dry_run=dry_run,
            progress=told,
        )
    if as_json:
        show_json({"dry_run": dry_run, "found": done.found, "replayed": done.replayed})
    else:
        verb = "would be" if dry_run else "is" if done.replayed == 1 else "are"
        click.echo(f"{done.replayed} of {counted(done.found, 'delivery', 'deliveries')} {verb} due again.")
    return OK


@outbox.command()
@click.argument("handler")
@click.option("--since", metavar="TIME", required=True, callback=moment, help="Events from then on: a time, or 90d.")
@click.option("--until", metavar="TIME", callback=moment, help="Events from before then; now by default.")
@dry_run
@as_json
@pass_session
def backfill(
    session: Session, handler: str, since: datetime, until: datetime | None, dry_run: bool, as_json: bool
) -> None:
    """Deliver events to HANDLER that occurred before it was registered."""
    with session.runtime() as runtime:
        count = runtime.backfill_handler(
            handler,
            since=since,
            until=until,
            dry_run=dry_run,
            progress=lambda so_far: click.echo(f"{so_far} …", err=True),
        )
    if as_json:
        show_json({"dry_run": dry_run, "events": count})
    else:
        verb = "would be" if dry_run else "is" if count == 1 else "are"
        click.echo(f"{counted(count, 'event')} {verb} delivered to {handler}.")


@outbox.command()
@click.argument("handler")
@click.option("--force", is_flag=True, help="Also where a process said lately that it has the handler.")
@dry_run
@as_json
@pass_session
def forget(session: Session, handler: str, force: bool, dry_run: bool, as_json: bool) -> None:
    """Remove HANDLER, which no process has any more, and all that waits for it."""
    with session.runtime() as runtime:
        if dry_run:
            from ..errors import NotFound

            known = {one.name: one for one in runtime.outbox_status().handlers}
            if handler not in known:
                raise NotFound.named("handler", handler, known)
            one = known[handler]
            count = one.pending + one.retry + one.running + one.dead
        else:
            count = runtime.forget_handler(
                handler, force=force, progress=lambda so_far: click.echo(f"{so_far} …", err=True)
            )
    if as_json:
        show_json({"dry_run": dry_run, "handler": handler, "removed": count})
    else:
        what = counted(count, "delivery", "deliveries")
        click.echo(f"{handler} {'would be' if dry_run else 'is'} forgotten, with {what}.")
