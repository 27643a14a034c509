"""``go-services installations``: apps that are installed at providers, and ending that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..counted import counted
from . import options
from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run
from .output import fields, show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..model import Scope
    from ..resources import Installation, InstallationStatus

_STATUSES = ("active", "suspended", "uninstalled", "needs_reconsent")


@click.group(cls=Group)
def installations() -> None:
    """List, show and end installations of apps.

    \b
    go-services installations list --provider github --scope org:acme
    """


@installations.command("list")
@click.option("--provider", help="Only of this provider.")
@options.scope(required=False)
@click.option("--type", "install_type", help="Only of this type.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option("--after", metavar="ID", help="Begin after this installation.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_installations(
    session: Session,
    provider: str | None,
    scope: Scope | None,
    install_type: str | None,
    status: InstallationStatus | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List installations by id, a page at a time."""
    with session.runtime() as runtime:
        page = runtime.installations(
            provider_id=provider, scope=scope, install_type=install_type, status=status, after=after, limit=limit
        )
    if as_json:
        show_json({"installations": [as_fields(one) for one in page.items], "next": page.next})
        return
    rows = [(one.id, one.provider_id, one.scope, one.install_type, one.status) for one in page.items]
    table(("id", "provider", "scope", "type", "status"), rows, empty="There is no such installation.", whole=1)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


@installations.command()
@click.argument("installation")
@as_json
@pass_session
def show(session: Session, installation: str, as_json: bool) -> None:
    """Show one installation."""
    with session.runtime() as runtime:
        found = runtime.installation(installation)
    _print(found, as_json)


@installations.command()
@click.argument("installation")
@click.option("--reason", default="go-services command", show_default=True, help="Goes into the event.")
@click.option("--disconnect", is_flag=True, help="Disconnect the connections of its provider and scope as well.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run
@as_json
@pass_session
def uninstall(
    session: Session, installation: str, reason: str, disconnect: bool, yes: bool, dry_run: bool, as_json: bool
) -> int:
    """Keep that an app is installed no more."""
    with session.runtime() as runtime:
        found = runtime.installation(installation)
        what = f"{found.provider_id} {found.install_type} of {found.scope}"
        if dry_run:
            if as_json:
                show_json({"dry_run": True, "installation": as_fields(found)})
            else:
                click.echo(f"Would uninstall {what} ({found.status}){' and disconnect' if disconnect else ''}.")
            return OK
        if not yes and not click.confirm(f"Uninstall {what}?", err=True):
            click.echo("Nothing was changed.", err=True)
            return FAILED
        ended = runtime.uninstall(installation, reason=reason, disconnect=disconnect)
    if as_json:
        disconnected = [one.connection.id for one in ended.disconnected]
        show_json({"installation": as_fields(ended.installation), "disconnected": disconnected})
    else:
        click.echo(f"Uninstalled {what}.")
        if ended.disconnected:
            click.echo(f"Disconnected {counted(len(ended.disconnected), 'connection')}.")
    return OK


def as_fields(installation: Installation) -> dict[str, Any]:
    """The installation for JSON."""
    return {
        "id": installation.id,
        "provider": installation.provider_id,
        "scope": str(installation.scope),
        "type": installation.install_type,
        "status": installation.status,
        "reason": installation.status_reason,
        "granted_at": installation.granted_at,
        "revoked_at": installation.revoked_at,
        "metadata": installation.metadata,
        "created_at": installation.created_at,
        "updated_at": installation.updated_at,
    }


def _print(installation: Installation, as_json: bool) -> None:
    shown = as_fields(installation)
    if as_json:
        show_json(shown)
    else:
        fields([(name.replace("_", " "), value) for name, value in shown.items()])
