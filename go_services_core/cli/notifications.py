"""``go-services notifications``: who was told of what, and telling those again who could not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run
from .output import show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..resources import DispatchStatus

_STATUSES = ("running", "sent", "failed")


@click.group(cls=Group)
def notifications() -> None:
    """List notifications, and retry those that could not be sent.

    \b
    go-services notifications list --status failed
    """


@notifications.command("list")
@click.option("--name", help="Only of this notification.")
@click.option("--event", "event_id", metavar="ID", help="Only of this event.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option("--after", metavar="ID", help="Begin after this line.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_notifications(
    session: Session,
    name: str | None,
    event_id: str | None,
    status: DispatchStatus | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List who was told, or could not be, a page at a time."""
    with session.runtime() as runtime:
        page = runtime.notifications(name=name, event_id=event_id, status=status, after=after, limit=limit)
    found = [
        {
            "id": one.dispatch.id,
            "name": one.dispatch.projector,
            "definition": one.dispatch.definition_code,
            "event_id": one.dispatch.event_id,
            "recipient": one.dispatch.recipient_key,
            "status": one.status,
            "attempts": one.attempts,
            "error": one.error,
            "updated_at": one.updated_at,
        }
        for one in page.items
    ]
    if as_json:
        show_json({"notifications": found, "next": page.next})
        return
    headers = ("id", "name", "definition", "event_id", "recipient", "status", "attempts", "error")
    table(headers, [[one[name] for name in headers] for one in found], empty="There is none.", whole=1, text=True)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


@notifications.command()
@click.argument("name")
@click.argument("event")
@dry_run
@as_json
@pass_session
def retry(session: Session, name: str, event: str, dry_run: bool, as_json: bool) -> int:
    """Tell those again who were not told of EVENT by the notification NAME, once it has no attempts left.

    Who was told is not told again.
    """
    with session.runtime() as runtime:
        if dry_run:
            page = runtime.notifications(name=name, event_id=event, status="failed", limit=1000)
            recipients = [one.dispatch.recipient_key for one in page.items]
            if as_json:
                show_json({"dry_run": True, "recipients": recipients})
            else:
                click.echo(f"Would tell, if it is dead: {', '.join(recipients) or 'nobody'}.")
            return OK
        retried = runtime.retry_notification(name, event)
    if as_json:
        show_json({"retried": retried})
    else:
        click.echo("It is due again." if retried else "It is not dead: there is nothing to retry.")
    return OK if retried else FAILED
