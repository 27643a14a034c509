"""``go-services subscriptions``: what providers tell of changes of, and keeping or ending that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..counted import counted
from . import options
from .exits import OK
from .lazy import Group
from .options import as_json, dry_run
from .output import fields, show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..resources import Subscription, SubscriptionStatus

_STATUSES = ("active", "expired", "cancelled", "errored")


@click.group(cls=Group)
def subscriptions() -> None:
    """List, make, renew and cancel subscriptions to providers' resources.

    \b
    go-services subscriptions list --expiring-within 1d
    go-services subscriptions renew 0197…
    """


@subscriptions.command("list")
@click.option("--connection", help="Only of this connection.")
@click.option("--provider", help="Only of this provider.")
@click.option("--type", "resource_type", help="Only to resources of this type.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only with this status.")
@click.option(
    "--expiring-within",
    "within",
    metavar="TIME",
    callback=lambda ctx, param, value: None if value is None else options.seconds(ctx, param, value),
    help="Only what ends within this time, or has ended: 7d, 12h, 30m, 0s.",
)
@click.option("--after", metavar="ID", help="Begin after this subscription.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@as_json
@pass_session
def list_subscriptions(
    session: Session,
    connection: str | None,
    provider: str | None,
    resource_type: str | None,
    status: SubscriptionStatus | None,
    within: float | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List subscriptions by id, a page at a time."""
    from datetime import UTC, datetime, timedelta

    before = None if within is None else datetime.now(UTC) + timedelta(seconds=within)
    with session.runtime() as runtime:
        page = runtime.subscriptions(
            connection_id=connection,
            provider_id=provider,
            resource_type=resource_type,
            status=status,
            expiring_before=before,
            after=after,
            limit=limit,
        )
    if as_json:
        show_json({"subscriptions": [as_fields(one) for one in page.items], "next": page.next})
        return
    rows = [(one.id, one.provider_id, _resource(one), state(one), one.expires_at) for one in page.items]
    table(("id", "provider", "resource", "status", "ends"), rows, empty="There is no such subscription.", whole=1)
    if page.next is not None:
        click.echo(f"There are more: --after {page.next}")


@subscriptions.command()
@click.argument("subscription")
@as_json
@pass_session
def show(session: Session, subscription: str, as_json: bool) -> None:
    """Show one subscription; never its verification token."""
    with session.runtime() as runtime:
        found = runtime.subscription(subscription)
    _print(found, as_json)


@subscriptions.command()
@click.argument("connection")
@click.argument("resource_type")
@click.argument("resource")
@click.option("--callback-url", help="Where the provider calls; else below webhooks.url of the configuration.")
@click.option("--event", "events", multiple=True, help="What to tell of, in the provider's words. May be repeated.")
@dry_run
@as_json
@pass_session
def create(
    session: Session,
    connection: str,
    resource_type: str,
    resource: str,
    callback_url: str | None,
    events: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Have the provider of CONNECTION tell of changes of RESOURCE.

    \b
    go-services subscriptions create 0197… folder inbox --event created
    """
    with session.runtime() as runtime:
        if dry_run:
            found = runtime.connection(connection)
            if as_json:
                show_json({"dry_run": True, "connection": found.id, "type": resource_type, "resource": resource})
            else:
                click.echo(f"Would subscribe {found.provider_id} {found.id} to {resource_type} {resource}.")
            return
        made = runtime.subscribe(connection, resource_type, resource, callback_url=callback_url, events=events)
    _print(made, as_json)


@subscriptions.command()
@click.argument("subscription")
@dry_run
@as_json
@pass_session
def renew(session: Session, subscription: str, dry_run: bool, as_json: bool) -> None:
    """Renew a subscription now, also one that has expired.

    Where the provider cannot move its end, another one takes its place and is shown.
    """
    with session.runtime() as runtime:
        if dry_run:
            _would("renew", runtime.subscription(subscription), as_json)
            return
        renewed = runtime.renew_subscription(subscription)
    if not as_json:
        click.echo(f"Renewed {renewed.provider_id} {_resource(renewed)}.")
    _print(renewed, as_json)


@subscriptions.command()
@click.argument("subscription")
@click.option("--reason", default="go-services command", show_default=True, help="Goes into the event.")
@dry_run
@as_json
@pass_session
def cancel(session: Session, subscription: str, reason: str, dry_run: bool, as_json: bool) -> int:
    """End a subscription here and at the provider, and destroy its verification token.

    A provider that cannot be told now is told by the job subscriptions.cancel.
    """
    with session.runtime() as runtime:
        if dry_run:
            _would("cancel", runtime.subscription(subscription), as_json)
            return OK
        ended = runtime.cancel_subscription(subscription, reason=reason)
    if not as_json:
        click.echo(f"Cancelled {ended.provider_id} {_resource(ended)}.")
    _print(ended, as_json)
    return OK


def _would(what: str, found: Subscription, as_json: bool) -> None:
    if as_json:
        show_json({"dry_run": True, "subscription": as_fields(found)})
    else:
        click.echo(f"Would {what} {found.provider_id} {_resource(found)} ({state(found)}).")


def _resource(subscription: Subscription) -> str:
    return f"{subscription.resource_type} {subscription.resource_id}"


def state(subscription: Subscription) -> str:
    """The status, with what is wrong or under way beside it."""
    if subscription.status == "active" and subscription.replaced_by is not None:
        return "active (replaced)"
    if subscription.status == "active" and subscription.confirmed_at is None:
        return "active (not confirmed)"
    if subscription.status != "cancelled" and subscription.attempts:
        return f"{subscription.status} (failed {counted(subscription.attempts, 'time')})"
    return subscription.status


def as_fields(subscription: Subscription) -> dict[str, Any]:
    """The subscription for JSON."""
    return {
        "id": subscription.id,
        "connection": subscription.connection_id,
        "provider": subscription.provider_id,
        "type": subscription.resource_type,
        "resource": subscription.resource_id,
        "status": subscription.status,
        "reason": subscription.status_reason,
        "channel": subscription.channel_id,
        "callback_url": subscription.callback_url,
        "events": subscription.events,
        "expires_at": subscription.expires_at,
        "renew_at": subscription.renew_at,
        "attempts": subscription.attempts,
        "confirmed_at": subscription.confirmed_at,
        "last_notified_at": subscription.last_notified_at,
        "replaces": subscription.replaces,
        "replaced_by": subscription.replaced_by,
        "created_at": subscription.created_at,
        "updated_at": subscription.updated_at,
    }


def _print(subscription: Subscription, as_json: bool) -> None:
    shown = as_fields(subscription)
    if as_json:
        show_json(shown)
    else:
        fields([(name.replace("_", " "), value) for name, value in shown.items()])
