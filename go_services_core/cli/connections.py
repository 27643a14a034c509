"""``go-services connections``: what is connected, and ending it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import click

from ..counted import counted
from . import options
from .connect import check_browser, consented, in_browser
from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run
from .output import fields, show_json, table
from .session import Session, pass_session
from .transfer import export, import_

if TYPE_CHECKING:
    from ..grants import GrantReport
    from ..model import Connection, Decision, Scope, SecretState
    from ..outlook import ConnectionHealth

_SECRET_STATES = ("ok", "unreadable")
_STATUSES = ("active", "disconnected", "errored", "pending_reauth", "needs_reconsent")


@click.group(cls=Group)
def connections() -> None:
    """List, show, end, import and export connections, and ask their people again.

    \b
    go-services connections list --provider github --scope user:1
    go-services connections disconnect 0197… --reason "user asked"
    """


@connections.command("list")
@click.option("--provider", help="Only of this provider.")
@options.scope(required=False)
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option(
    "--secret-state", type=click.Choice(_SECRET_STATES), help="Only where the credential can, or cannot, be opened."
)
@click.option("--after", metavar="ID", help="Begin after this connection.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_connections(
    session: Session,
    provider: str | None,
    scope: Scope | None,
    status: str | None,
    secret_state: SecretState | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List connections by id, a page at a time."""
    with session.runtime() as runtime:
        page = runtime.connections(
            provider_id=provider, scope=scope, status=status, secret_state=secret_state, after=after, limit=limit
        )
    if as_json:
        show_json({"connections": [as_fields(one) for one in page.items], "next": page.next})
        return
    rows = [(one.id, one.provider_id, one.scope, one.external_account_id, state(one)) for one in page.items]
    table(("id", "provider", "scope", "account", "status"), rows, empty="There is no such connection.", whole=1)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


@connections.command()
@click.argument("connection")
@click.option("--profile", is_flag=True, help="Ask the provider whose account it is, and show that too.")
@as_json
@pass_session
def show(session: Session, connection: str, profile: bool, as_json: bool) -> None:
    """Show one connection and its grants; never its credential.

    What a disconnect could not revoke yet is told below it.
    """
    with session.runtime() as runtime:
        found, held = runtime.connection(connection), runtime.grants(connection)
        told = runtime.profile(connection) if profile else None
        pending = [
            {
                "version": job.payload["version"],
                "since": job.created_at,
                "attempts": job.attempts,
                "error": job.last_error,
            }
            for job in runtime.pending_revocations(connection)
        ]
    names = ("issuer", "subject", "email", "email_verified", "name", "picture_url", "locale")
    said = {name: getattr(told, name) for name in names} if told is not None else {}
    if as_json:
        profiled = {"profile": said} if said else {}
        show_json({**as_fields(found), **profiled, "grants": _grants(held), "pending_revocations": pending})
        return
    fields(
        [
            *((name.replace("_", " "), value) for name, value in {**as_fields(found), **said}.items()),
            ("requested", held.requested),
            ("granted", "unknown: the provider does not tell" if held.granted is None else held.granted),
            ("missing", held.missing),
            *((one.capability, _verdict(one)) for one in held.capabilities),
        ]
    )
    for one in pending:
        why = f": {one['error']}" if one["error"] else ""
        click.echo(f"Version {one['version']} is still to be revoked at the provider, attempts {one['attempts']}{why}")


@connections.command()
@click.argument("connection")
@click.option("--grant", "grants", multiple=True, help="Grant to ask for in addition. May be repeated.")
@in_browser
@dry_run
@as_json
@pass_session
def reconsent(
    session: Session,
    connection: str,
    grants: tuple[str, ...],
    headless: bool,
    redirect_uri: str | None,
    port: int | None,
    timeout: float | None,
    no_browser: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Have the person of CONNECTION consent again, to what was asked for before and to more.

    Opens the consent page and receives the callback on 127.0.0.1; --headless asks for the address on which the consent
    ended instead. The connection stays as it is until that succeeds; the consent must be given with the same account.

    \b
    go-services connections reconsent 0197… --grant issues.write
    """
    check_browser(headless, redirect_uri, port, timeout)
    with session.runtime() as runtime:
        if dry_run:
            found, held = runtime.connection(connection), runtime.grants(connection)
            asked = tuple(dict.fromkeys((*held.requested, *grants)))
            if as_json:
                show_json({"dry_run": True, "connection": as_fields(found), "grants": asked})
                return
            wanted = ", ".join(asked) or "the default grants"
            click.echo(f"Would open the consent page for {wanted} of {found.provider_id} {found.id} ({state(found)}).")
            return
        begin = partial(runtime.reconsent, connection, grants=grants)
        found = consented(
            runtime,
            begin,
            headless=headless,
            redirect_uri=redirect_uri,
            port=port,
            timeout=timeout,
            no_browser=no_browser,
        )
    print_connection(found, as_json)


@connections.command()
@click.argument("connection", required=False)
@click.option("--provider", help="Only of this provider.")
@options.scope(required=False)
@click.option(
    "--within",
    default="7d",
    metavar="TIME",
    callback=options.seconds,
    show_default=True,
    help="Tell of new consents that are needed within this time: 7d, 12h, 30m.",
)
@click.option("--after", metavar="ID", help="Begin after this connection.")
@click.option("--limit", type=click.IntRange(1, 1000), help="How many at most.  [default: 100]")
@as_json
@pass_session
def health(
    session: Session,
    connection: str | None,
    provider: str | None,
    scope: Scope | None,
    within: float,
    after: str | None,
    limit: int | None,
    as_json: bool,
) -> int:
    """Show when tokens end and are renewed; exit with 1 when a connection does not work any more by itself.

    Nothing is decrypted and no provider is asked. Connections that are disconnected are left out.
    """
    from datetime import timedelta

    if connection is not None:
        choosing = (("--provider", provider), ("--scope", scope), ("--after", after), ("--limit", limit))
        for name, value in choosing:
            if value is not None:
                raise click.UsageError(f"{name} chooses among all connections; it does not go with CONNECTION.")
    ahead = timedelta(seconds=within)
    with session.runtime() as runtime:
        if connection is not None:
            found: tuple[ConnectionHealth, ...] = (runtime.connection_health(connection, within=ahead),)
            following = None
        else:
            page = runtime.connections_health(
                provider_id=provider, scope=scope, within=ahead, after=after, limit=limit or 100
            )
            found, following = page.items, page.next
    if as_json:
        show_json({"connections": [health_as_fields(one) for one in found], "next": following})
    elif connection is not None:
        fields([(name.replace("_", " "), value) for one in found for name, value in health_as_fields(one).items()])
    else:
        rows = [(one.connection.id, one.verdict, one.connection.provider_id, one.advice) for one in found]
        table(
            ("id", "verdict", "provider", "what to do"), rows, empty="There is no such connection.", whole=2, text=True
        )
        if following is not None:
            click.echo(f"There are more: --after {following}")
    return FAILED if any(one.verdict == "action needed" for one in found) else OK


def _units(count: float) -> str:
    return f"{count:.2f}".rstrip("0").rstrip(".")


@connections.command()
@click.argument("connection")
@click.argument("operation")
@as_json
@pass_session
def budget(session: Session, connection: str, operation: str, as_json: bool) -> None:
    """Show what is left of the rate budget that counts OPERATION with CONNECTION; nothing is sent."""
    with session.runtime() as runtime:
        found = runtime.budget(connection, operation)
    if as_json:
        show_json({"windows": [{"window": name, **attrs.asdict(held)} for name, held in found.items()]})
        return
    rows = [
        (
            f"{name} s" if name.isdigit() else name,
            _units(held.limit),
            _units(held.remaining),
            f"{held.reset_in:.0f} s",
            f"{held.paused_in:.0f} s" if held.paused_in else "",
        )
        for name, held in found.items()
    ]
    table(
        ("window", "limit", "remaining", "reset in", "paused for"),
        rows,
        empty="No window is declared. What answers tell is known to the processes that get them.",
    )


@connections.command()
@click.argument("connection")
@dry_run
@as_json
@pass_session
def refresh(session: Session, connection: str, dry_run: bool, as_json: bool) -> None:
    """Renew a connection's token now."""
    with session.runtime() as runtime:
        if dry_run:
            found = runtime.connection(connection)
            if as_json:
                show_json({"dry_run": True, "connection": as_fields(found)})
            else:
                click.echo(f"Would refresh {found.provider_id} {found.id} ({state(found)}).")
            return
        found = runtime.refresh(connection)
    if not as_json:
        click.echo(f"Renewed the token of {found.provider_id} {found.external_account_id} for {found.scope}.")
    print_connection(found, as_json)


@connections.command()
@click.argument("connection")
@click.option("--reason", default="go-services command", show_default=True, help="Goes into the event.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run
@as_json
@pass_session
def disconnect(session: Session, connection: str, reason: str, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Revoke at the provider where it can be told, and destroy the stored credential.

    What could not be revoked now is tried again by the job connections.revoke; `show` tells whether it is open.
    """
    with session.runtime() as runtime:
        found = runtime.connection(connection)
        what = f"{found.provider_id} {found.external_account_id} of {found.scope}"
        if dry_run:
            if as_json:
                show_json({"dry_run": True, "connection": as_fields(found)})
            else:
                click.echo(f"Would disconnect {what} ({state(found)}).")
            return OK
        if not yes and not click.confirm(f"Disconnect {what}?", err=True):
            click.echo("Nothing was changed.", err=True)
            return FAILED
        ended = runtime.disconnect(connection, reason=reason)
    if as_json:
        told = {name: getattr(ended, name) for name in ("revoked", "detail", "pending", "overtaken", "cancelled")}
        show_json({"connection": as_fields(ended.connection), **told})
    else:
        click.echo(f"Disconnected {what}.")
        click.echo("Revoked at the provider." if ended.revoked else f"Not revoked at the provider: {ended.detail}")
        if ended.cancelled:
            click.echo(f"Cancelled {counted(len(ended.cancelled), 'subscription')}.")
        if ended.overtaken:
            click.echo("A renewal was still going on; what it brings is revoked by its process.")
    return OK


def _verdict(decision: Decision) -> str:
    return f"{decision.mode}: {decision.reason}" if decision.reason else decision.mode


def _grants(held: GrantReport) -> dict[str, Any]:
    return {
        "version": held.version,
        "requested": held.requested,
        "granted": held.granted,
        "missing": held.missing,
        "captured_at": held.captured_at,
        "capabilities": {
            one.capability: {"allowed": one.allowed, "mode": one.mode, "missing": one.missing, "reason": one.reason}
            for one in held.capabilities
        },
    }


connections.add_command(export)
connections.add_command(import_)


def state(connection: Connection) -> str:
    """The status, with what is wrong beside it."""
    notes = []
    if connection.refresh_state != "ok":
        notes.append(f"refresh {connection.refresh_state.replace('_', ' ')}")
    if connection.secret_state != "ok":
        notes.append(connection.secret_state)
    return f"{connection.status} ({', '.join(notes)})" if notes else connection.status


def as_fields(connection: Connection) -> dict[str, Any]:
    """The connection for JSON."""
    return {
        "id": connection.id,
        "provider": connection.provider_id,
        "auth": connection.auth_kind,
        "scope": str(connection.scope),
        "account": connection.external_account_id,
        "status": connection.status,
        "refresh_state": connection.refresh_state,
        "secret_state": connection.secret_state,
        "inherits_from": connection.inherits_from,
        "last_error": connection.last_error,
        "created_at": connection.created_at,
        "updated_at": connection.updated_at,
    }


def health_as_fields(health: ConnectionHealth) -> dict[str, Any]:
    """The health of a connection for JSON."""
    return {
        **as_fields(health.connection),
        "verdict": health.verdict,
        "advice": health.advice,
        "token_ends": health.token_ends,
        "refresh_ends": health.refresh_ends,
        "next_renewal": health.next_renewal,
        "retry_at": health.retry_at,
    }


def print_connection(connection: Connection, as_json: bool) -> None:
    """Print one connection."""
    if as_json:
        show_json(as_fields(connection))
    else:
        fields([(name.replace("_", " "), value) for name, value in as_fields(connection).items()])
