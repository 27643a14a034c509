"""Subscriptions: versioned rows, each with a channel that stays with its connection."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from peewee import ModelSelect

from go_services_core.errors import Conflict, InvalidTransition, ServicesError, VersionConflict
from go_services_core.model import Event, NewJob, Page
from go_services_core.resources import SUBSCRIPTION_MOVES, Subscription, allowed_from, predecessors

from . import connections
from .dialect import Json, read_json, read_time, read_time_or_none, time_text
from .events import enqueue
from .jobs import enqueue as enqueue_job
from .models import SubscriptionRow
from .sealed import sealed_of
from .statement import Param, Row, Statement, Steps, insert
from .transitions import from_any, missing, not_allowed

COLUMNS = (
    SubscriptionRow.id,
    SubscriptionRow.connection_id,
    SubscriptionRow.provider_id,
    SubscriptionRow.resource_type,
    SubscriptionRow.resource_id,
    SubscriptionRow.channel_id,
    SubscriptionRow.remote_subscription_id,
    SubscriptionRow.callback_url,
    SubscriptionRow.verification_token_ref,
    SubscriptionRow.status,
    SubscriptionRow.status_reason,
    SubscriptionRow.version,
    SubscriptionRow.expires_at,
    SubscriptionRow.last_notified_at,
    SubscriptionRow.metadata,
    SubscriptionRow.created_at,
    SubscriptionRow.updated_at,
    SubscriptionRow.verification_token,
    SubscriptionRow.encryption_backend,
    SubscriptionRow.encryption_key_id,
    SubscriptionRow.encryption_version,
    SubscriptionRow.events,
    SubscriptionRow.remote_resource_id,
    SubscriptionRow.confirmed_at,
    SubscriptionRow.renew_at,
    SubscriptionRow.attempts,
    SubscriptionRow.replaces,
    SubscriptionRow.replaced_by,
)
NEWEST = {
    "sqlite": "coalesce(max(last_notified_at, :last_notified_at), last_notified_at, :last_notified_at)",
    "postgres": "greatest(last_notified_at, :last_notified_at)",
}
"""Notifications are told past the row's version, so that a save may know an older one than the row."""


def _subscription_of(row: Row) -> Subscription:
    return Subscription(
        id=row[0],
        connection_id=row[1],
        provider_id=row[2],
        resource_type=row[3],
        resource_id=row[4],
        channel_id=row[5],
        remote_subscription_id=row[6],
        callback_url=row[7],
        verification_token_ref=row[8],
        status=row[9],
        status_reason=row[10],
        version=row[11],
        expires_at=read_time_or_none(row[12]),
        last_notified_at=read_time_or_none(row[13]),
        metadata=read_json(row[14]),
        created_at=read_time(row[15]),
        updated_at=read_time(row[16]),
        verification=sealed_of(*row[17:21]),
        events=tuple(read_json(row[21])),
        remote_resource_id=row[22],
        confirmed_at=read_time_or_none(row[23]),
        renew_at=read_time_or_none(row[24]),
        attempts=row[25],
        replaces=row[26],
        replaced_by=row[27],
    )


_ROWS = SubscriptionRow.select(*COLUMNS).where(SubscriptionRow.deleted_at.is_null())

GET: Statement[Subscription] = Statement(_ROWS.where(SubscriptionRow.id == Param("id")), _subscription_of)
BY_CHANNEL: Statement[Subscription] = Statement(
    _ROWS.where(SubscriptionRow.provider_id == Param("provider_id"), SubscriptionRow.channel_id == Param("channel_id")),
    _subscription_of,
)
FREE_CHANNEL: Statement[Row] = Statement(
    """UPDATE service_subscriptions SET deleted_at = @now
    WHERE provider_id = :provider_id AND channel_id = :channel_id AND connection_id = :connection_id
      AND status = 'cancelled' AND deleted_at IS NULL"""
)
INSERT: Statement[Subscription] = Statement(
    insert(SubscriptionRow), _subscription_of, tail="ON CONFLICT DO NOTHING RETURNING @columns", columns=COLUMNS
)
_REPLACE = from_any(
    """UPDATE service_subscriptions SET resource_type = :resource_type, resource_id = :resource_id,
      channel_id = :channel_id, remote_subscription_id = :remote_subscription_id, callback_url = :callback_url,
      verification_token_ref = :verification_token_ref, verification_token = :verification_token,
      encryption_backend = :encryption_backend, encryption_key_id = :encryption_key_id,
      encryption_version = :encryption_version, status = :status, status_reason = :status_reason,
      version = version + 1, expires_at = :expires_at, metadata = :metadata, last_notified_at = @newest,
      events = :events, remote_resource_id = :remote_resource_id, confirmed_at = :confirmed_at, renew_at = :renew_at,
      attempts = :attempts, replaces = :replaces, replaced_by = :replaced_by, updated_at = :updated_at
    WHERE id = :id AND version = :version AND connection_id = :connection_id AND provider_id = :provider_id
      AND deleted_at IS NULL AND status @before
      AND NOT EXISTS (SELECT 1 FROM service_subscriptions AS other
                      WHERE other.provider_id = :provider_id AND other.channel_id = :channel_id
                        AND other.deleted_at IS NULL AND other.id <> :id)
    RETURNING @columns"""
)
REPLACE: Statement[Subscription] = Statement(
    {dialect: text.replace("@newest", NEWEST[dialect]) for dialect, text in _REPLACE.items()},
    _subscription_of,
    columns=COLUMNS,
)
SET_STATUS: Statement[Subscription] = Statement(
    from_any(
        """UPDATE service_subscriptions SET status = :status, status_reason = :reason, version = version + 1,
          updated_at = @now
        WHERE id = :id AND deleted_at IS NULL AND status @before RETURNING @columns"""
    ),
    _subscription_of,
    columns=COLUMNS,
)


NOTIFIED: Statement[Row] = Statement(
    {
        "sqlite": """UPDATE service_subscriptions SET last_notified_at = json_extract(told.value, '$[2]')
        FROM json_each(:told) AS told
        WHERE provider_id = json_extract(told.value, '$[0]') AND channel_id = json_extract(told.value, '$[1]')
          AND deleted_at IS NULL AND coalesce(last_notified_at, '') < json_extract(told.value, '$[2]')""",
        "postgres": """UPDATE service_subscriptions SET last_notified_at = (value ->> 2 || '+00')::timestamptz
        FROM jsonb_array_elements(:told) AS told (value)
        WHERE provider_id = value ->> 0 AND channel_id = value ->> 1 AND deleted_at IS NULL
          AND (last_notified_at IS NULL OR last_notified_at < (value ->> 2 || '+00')::timestamptz)""",
    }
)
# SQLite keeps the order of a CROSS JOIN; else it could begin with every connection of the provider, and sort.
DUE: Statement[Subscription] = Statement(
    f"""SELECT {", ".join(f"sub.{column.column_name}" for column in COLUMNS)}
    FROM service_subscriptions AS sub CROSS JOIN service_connections AS connection
    WHERE connection.id = sub.connection_id AND connection.deleted_at IS NULL
      AND sub.provider_id = :provider_id AND sub.status <> 'cancelled' AND sub.deleted_at IS NULL
      AND sub.renew_at <= :before AND (sub.renew_at, sub.id) > (:at, :id)
      AND (connection.status = 'active' OR (sub.status = 'active' AND sub.expires_at <= :before))
    ORDER BY sub.renew_at, sub.id LIMIT :rows""",  # noqa: S608
    _subscription_of,
)
_BEGINNING: Final = (datetime(1970, 1, 1, tzinfo=UTC), "")


def save(
    changes: Sequence[tuple[Subscription, int | None]], *, events: Sequence[Event], jobs: Sequence[NewJob]
) -> Steps[list[Subscription]]:
    """Keep new subscriptions or replace those versions, with their events and jobs.

    Raises VersionConflict, Conflict, InvalidTransition, ConnectionNotFound or NotFound.
    """
    saved = []
    for wanted, expected in changes:
        saved.append((yield from (_insert(wanted) if expected is None else _replace(wanted, expected))))
    for event in events:
        yield from enqueue(event)
    for job in jobs:
        yield from enqueue_job(job)
    return saved


def _values(wanted: Subscription) -> dict[str, Any]:
    token = wanted.verification
    return {
        "id": wanted.id,
        "connection_id": wanted.connection_id,
        "provider_id": wanted.provider_id,
        "resource_type": wanted.resource_type,
        "resource_id": wanted.resource_id,
        "channel_id": wanted.channel_id,
        "remote_subscription_id": wanted.remote_subscription_id,
        "callback_url": wanted.callback_url,
        "verification_token_ref": wanted.verification_token_ref,
        "verification_token": None if token is None else token.ciphertext,
        "encryption_backend": "" if token is None else token.key.backend,
        "encryption_key_id": "" if token is None else token.key.key_id,
        "encryption_version": 1 if token is None else token.key.key_version,
        "status": wanted.status,
        "status_reason": wanted.status_reason,
        "expires_at": wanted.expires_at,
        "last_notified_at": wanted.last_notified_at,
        "metadata": Json(dict(wanted.metadata)),
        "events": Json(list(wanted.events)),
        "remote_resource_id": wanted.remote_resource_id,
        "confirmed_at": wanted.confirmed_at,
        "renew_at": wanted.renew_at,
        "attempts": wanted.attempts,
        "replaces": wanted.replaces,
        "replaced_by": wanted.replaced_by,
        "updated_at": wanted.updated_at,
    }


def _insert(wanted: Subscription) -> Steps[Subscription]:
    if wanted.status != "active":
        raise InvalidTransition(f"A new subscription is active, not {wanted.status}.", field="subscription.status")
    yield from connections.get(wanted.connection_id)
    channel = {"provider_id": wanted.provider_id, "channel_id": wanted.channel_id}
    yield from FREE_CHANNEL(**channel, connection_id=wanted.connection_id)
    saved = yield from INSERT.first(**_values(wanted), version=1, created_at=wanted.created_at, deleted_at=None)
    if saved is not None:
        return saved
    holder = yield from BY_CHANNEL.first(**channel)
    if holder is not None and holder.connection_id != wanted.connection_id:
        raise Conflict("The channel belongs to another connection.", field="subscription.channel_id")
    raise _changed(holder or (yield from GET.first(id=wanted.id)))


def _changed(found: Subscription | None) -> VersionConflict:
    metadata = {} if found is None else {"subscription_id": found.id, "version": found.version}
    return VersionConflict("Another writer was first: the subscription has another version.", metadata=metadata)


def _replace(wanted: Subscription, version: int) -> Steps[Subscription]:
    before = predecessors(SUBSCRIPTION_MOVES, wanted.status)
    saved = yield from REPLACE.first(**_values(wanted), version=version, before=Json(sorted(before)))
    if saved is None:
        raise (yield from _why_not(wanted, version, before))
    return saved


def _why_not(wanted: Subscription, version: int, before: Collection[str]) -> Steps[ServicesError]:
    found = yield from GET.first(id=wanted.id)
    if found is None:
        return missing("subscription", wanted.id)
    if (found.connection_id, found.provider_id) != (wanted.connection_id, wanted.provider_id):
        return Conflict("A subscription keeps its connection and provider.", field="subscription.connection_id")
    if found.version != version:
        return _changed(found)
    if found.status not in before:
        return not_allowed("subscription", found.id, found.status, wanted.status)
    return Conflict("The channel belongs to another subscription.", field="subscription.channel_id")


def get(subscription_id: str) -> Steps[Subscription | None]:
    """The subscription."""
    return (yield from GET.first(id=subscription_id))


def by_channel(provider_id: str, channel_id: str) -> Steps[Subscription | None]:
    """The subscription of a channel."""
    return (yield from BY_CHANNEL.first(provider_id=provider_id, channel_id=channel_id))


def set_status(
    subscription_id: str, *, expected: Collection[str], status: str, reason: str, event: Event | None
) -> Steps[Subscription]:
    """One statement, and one for the event. Raises InvalidTransition or NotFound."""
    before = Json(sorted(allowed_from(SUBSCRIPTION_MOVES, status, expected)))
    moved = yield from SET_STATUS.first(id=subscription_id, before=before, status=status, reason=reason)
    if moved is None:
        found = yield from GET.first(id=subscription_id)
        if found is None:
            raise missing("subscription", subscription_id)
        raise not_allowed("subscription", subscription_id, found.status, status)
    if event is not None:
        yield from enqueue(event)
    return moved


@cache
def _listing(filters: frozenset[str]) -> Statement[Subscription]:
    query: ModelSelect[Any] = _ROWS.where(SubscriptionRow.id > Param("after"))
    for name in sorted(filters - {"expiring_before"}):
        query = query.where(getattr(SubscriptionRow, name) == Param(name))
    if "expiring_before" in filters:
        query = query.where(SubscriptionRow.expires_at <= Param("expiring_before"))
    return Statement(query.order_by(SubscriptionRow.id), _subscription_of, tail="LIMIT :rows")


def due(
    provider_id: str, *, before: datetime, after: tuple[datetime, str] | None, limit: int
) -> Steps[list[Subscription]]:
    """Subscriptions by the time of ``renew_at``: one statement, which an index serves."""
    at, id = after or _BEGINNING
    return (yield from DUE(provider_id=provider_id, before=before, at=at, id=id, rows=limit))


def notified(moments: Mapping[tuple[str, str], datetime]) -> Steps[None]:
    """When channels last brought a notification: one statement, whatever their number."""
    told = [[provider, channel, time_text(at)] for (provider, channel), at in moments.items()]
    yield from NOTIFIED(told=Json(told))


def page(
    *,
    connection_id: str | None,
    provider_id: str | None,
    resource_type: str | None,
    resource_id: str | None,
    status: str | None,
    expiring_before: datetime | None,
    after: str | None,
    limit: int,
) -> Steps[Page[Subscription]]:
    """Subscriptions by id, one statement, which is compiled once per set of filters."""
    filters = {
        "connection_id": connection_id,
        "provider_id": provider_id,
        "resource_type": resource_type,
        "resource_id": resource_id,
        "status": status,
        "expiring_before": expiring_before,
    }
    given = {name: value for name, value in filters.items() if value is not None}
    found = yield from _listing(frozenset(given))(**given, after=after or "", rows=limit + 1)
    return Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)
