"""What becomes of a subscription, without I/O: when it is looked at again, and the events and jobs of its changes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from ..clock import uuid7
from ..model import Event, NewJob
from ..resources import Subscription
from ..subscription_specs import SubscriptionAnswer, SubscriptionSpec
from .announce import told
from .core import Core

if TYPE_CHECKING:
    from ..model import Connection

BACKFILL: Final = "sync.backfill"
"""Kind of the job that a gap leaves, of the mode ``backfill``, where the provider's record asks for it."""
UNANSWERED: Final = 180.0
"""Seconds after which a subscription that nobody confirmed is taken for abandoned; longer than any call of it."""
SHARE: Final = 0.2
AT_LEAST: Final = 600.0
SPREAD: Final = 0.1
"""Share of the time before the end by which subscriptions that came together are renewed apart."""
FIRST_DELAY: Final = 60.0
LONGEST_DELAY: Final = 3600.0
SHORTEST_DELAY: Final = 15.0


def is_over(row: Subscription, now: datetime) -> bool:
    """Whether its time is over."""
    return row.expires_at is not None and row.expires_at <= now


def is_live(row: Subscription, now: datetime) -> bool:
    """Whether the provider has it, as far as anybody knows."""
    return row.status == "active" and row.confirmed_at is not None and not is_over(row, now)


def confirmed(row: Subscription, spec: SubscriptionSpec, answer: SubscriptionAnswer, now: datetime) -> Subscription:
    """``row`` as the provider says that it is."""
    return evolve(
        row,
        status="active",
        status_reason="",
        channel_id=answer.channel_id or row.channel_id,
        remote_subscription_id=answer.remote_id or row.remote_subscription_id,
        remote_resource_id=answer.remote_resource_id or row.remote_resource_id,
        expires_at=answer.expires_at,
        confirmed_at=now,
        renew_at=renew_at(spec, row.id, now, answer.expires_at),
        attempts=0,
        updated_at=now,
    )


def renew_at(spec: SubscriptionSpec, id: str, now: datetime, expires_at: datetime | None) -> datetime | None:
    """When to renew what ends at ``expires_at``: a fifth of its life before that, at least ten minutes.

    A worker that misses two rounds comes early enough still. None for what has no end.
    """
    if expires_at is None:
        return None
    life = max((expires_at - now).total_seconds(), 0.0)
    early = min(spec.renew_early or max(life * SHARE, AT_LEAST), life / 2)
    apart = early * SPREAD * (zlib.crc32(id.encode()) % 1000) / 1000
    return expires_at - timedelta(seconds=early + apart)


def delay(row: Subscription, now: datetime, chance: float, *, asked: float | None) -> float:
    """Seconds until the attempt after ``row.attempts`` failures: doubling, but several within what is left of its life.

    ``chance`` is at least 0 and below 1; ``asked`` is what the provider asks to wait.
    """
    seconds = min(FIRST_DELAY * 2.0 ** min(row.attempts - 1, 10), LONGEST_DELAY)
    if row.expires_at is not None and row.expires_at > now:
        left = (row.expires_at - now).total_seconds()
        seconds = max(min(seconds, left / 4), SHORTEST_DELAY)
    return max(seconds * (1 + 0.2 * chance), asked or 0.0)


def ended(row: Subscription, reason: str, now: datetime) -> Subscription:
    """``row`` cancelled, without its token."""
    return evolve(
        row,
        status="cancelled",
        status_reason=reason,
        verification=None,
        verification_token_ref="",
        renew_at=None,
        updated_at=now,
    )


def event_of(core: Core, row: Subscription, connection: Connection, name: str, **payload: Any) -> Event:
    """An event of a subscription, now; ``row`` is as it is after the change."""
    whose = {
        "subscription_id": row.id,
        "resource_type": row.resource_type,
        "resource_id": row.resource_id,
        "channel_id": row.channel_id,
        "status": row.status,
    }
    return told(core, connection, name, {**whose, **{key: _plain(value) for key, value in payload.items()}})


def gap_of(
    core: Core,
    row: Subscription,
    connection: Connection,
    spec: SubscriptionSpec,
    *,
    since: datetime,
    until: datetime,
    reason: str,
) -> tuple[Event, tuple[NewJob, ...]]:
    """What tells that nothing may have come from ``since`` to ``until``, and the job that repairs it."""
    span: Mapping[str, Any] = {"since": since.isoformat(), "until": until.isoformat(), "reason": reason}
    job = NewJob(
        id=uuid7(core.clock),
        kind=BACKFILL,
        provider_id=row.provider_id,
        scope=connection.scope,
        connection_id=row.connection_id,
        mode="backfill",
        payload={
            "subscription_id": row.id,
            "resource_type": row.resource_type,
            "resource_id": row.resource_id,
            **span,
        },
        requested_by="subscriptions",
        created_at=core.clock.now(),
    )
    jobs = (job,) if spec.backfill else ()
    return event_of(core, row, connection, "subscription.gap", **span, job_id=job.id if jobs else None), jobs


def missed_since(row: Subscription, now: datetime) -> datetime | None:
    """Since when notifications of ``row``, which does not work any more, may be missing; None where it never did.

    Until its end it brought them. One that the provider dropped before may have been mute since the last one that
    came, or since the provider last confirmed it.
    """
    if row.confirmed_at is None:
        return None
    if is_over(row, now):
        return row.expires_at
    return max(row.confirmed_at, row.last_notified_at or row.confirmed_at)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
