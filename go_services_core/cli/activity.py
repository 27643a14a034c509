"""``go-services activity``: what happened, as a list and as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..counted import counted
from . import options
from .activity_file import COLUMNS, FORMATS
from .lazy import Group
from .options import as_json, dry_run
from .output import show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ..blocking import BlockingRuntime
    from ..model import Scope
    from ..resources import Activity, ActivityStatus
    from .activity_file import ActivityFile

_STATUSES = ("ok", "warn", "error")
_PAGE = 500
"""Entries that are read at once for a file."""


@click.group(cls=Group)
def activity() -> None:
    """List and export the activity log, which has every event where [activity] enabled is true.

    \b
    go-services activity list --scope user:1 --status error
    go-services activity export --format csv --since 2026-01-01T00:00Z activity.csv
    """


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--provider", "provider_id", help="Only of this provider."),
            options.scope(required=False),
            click.option("--connection", "connection_id", metavar="ID", help="Only of this connection."),
            click.option("--action", help="Only this action: the name of an event."),
            click.option("--status", type=click.Choice(_STATUSES), help="Only with this status."),
            click.option(
                "--since", metavar="TIME", callback=options.moment, help="Not before then: a time, or 2h ago."
            ),
            click.option("--until", metavar="TIME", callback=options.moment, help="Before then."),
        )
    ):
        command = option(command)
    return command


@activity.command("list")
@_filters
@click.option("--after", metavar="PLACE", help="Go on behind this place, which the page before told.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_activity(session: Session, /, after: str | None, limit: int, as_json: bool, **filters: Any) -> None:
    """List entries, newest first, a page at a time."""
    with session.runtime() as runtime:
        page = runtime.activity(**filters, after=after, limit=limit)
    if not page.items:
        _say_if_off(session)
    if as_json:
        show_json({"activity": [as_fields(one) for one in page.items], "next": page.next})
        return
    rows = [
        (one.created_at, one.status, one.action, f"{one.object_type}:{one.object_id}", one.scope, one.actor)
        for one in page.items
    ]
    table(("time", "status", "action", "object", "scope", "actor"), rows, empty="There is no such entry.", whole=3)
    if page.next is not None:
        click.echo(f"There are more: --after '{page.next}'")


@activity.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=str))
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="Of the file; by default csv for FILE.csv, else jsonl."
)
@_filters
@click.option("--resume", is_flag=True, help="Go on with an export of the same entries that was interrupted.")
@dry_run
@as_json
@pass_session
def export(
    session: Session,
    file: str,
    form: str | None,
    provider_id: str | None,
    scope: Scope | None,
    connection_id: str | None,
    action: str | None,
    status: ActivityStatus | None,
    since: datetime | None,
    until: datetime | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write entries to FILE, newest first, page by page; a FILE that exists is not overwritten.

    Entries from before the beginning only: what comes meanwhile is for the next export. While it runs, FILE.state says
    how far it is, so that --resume can go on.
    """
    from datetime import UTC
    from datetime import datetime as now_of
    from pathlib import Path

    from .activity_file import ActivityFile

    filters: dict[str, Any] = {
        "provider_id": provider_id,
        "scope": scope,
        "connection_id": connection_id,
        "action": action,
        "status": status,
        "since": since,
        "until": until or now_of.now(UTC),
    }
    path = Path(file)
    form = form or ("csv" if path.suffix.lower() == ".csv" else "jsonl")
    asked = {name: None if value is None else str(value) for name, value in filters.items()}
    if until is None:
        asked["until"] = None
    with session.runtime() as runtime:
        if dry_run:
            written = _count(runtime, filters)
        else:
            runtime.activity(**filters, limit=1)  # raises for a name that does not exist, before there is a file
            with ActivityFile.begin(path, form, asked, until=filters["until"], resume=resume) as target:
                filters["until"] = target.until
                written = _write(runtime, filters, target, quiet=as_json)
    if not written:
        _say_if_off(session)
    if as_json:
        show_json({"file": file, "format": form, "entries": written, "dry_run": dry_run})
        return
    click.echo(f"{'Would write' if dry_run else 'Wrote'} {counted(written, 'entry', 'entries')} to {path}.")


def _say_if_off(session: Session) -> None:
    """Why there may be nothing."""
    if not session.config().get("activity.enabled"):
        click.echo("Events do not come into the activity log until [activity] enabled is true.", err=True)


def _count(runtime: BlockingRuntime, filters: dict[str, Any]) -> int:
    found, after = 0, None
    while True:
        page = runtime.activity(**filters, after=after, limit=_PAGE)
        found += len(page.items)
        after = page.next
        if after is None:
            return found


def _write(runtime: BlockingRuntime, filters: dict[str, Any], target: ActivityFile, *, quiet: bool) -> int:
    while True:
        page = runtime.activity(**filters, after=target.after, limit=_PAGE)
        target.add([as_fields(one) for one in page.items], page.next)
        if not quiet:
            click.echo(counted(target.entries, "entry", "entries"), err=True)
        if page.next is None:
            return target.entries


def as_fields(entry: Activity) -> dict[str, Any]:
    """An entry as JSON has it."""
    values = {name: getattr(entry, name) for name in COLUMNS}
    return {
        name: str(value) if name == "scope" else value.isoformat() if name == "created_at" else value
        for name, value in values.items()
    }
