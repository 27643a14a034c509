"""Frozen records of the outbox as an operator sees it."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen


@frozen(kw_only=True)
class HandlerStatus:
    """How far one durable handler is."""

    name: str
    pattern: str | None = None
    """None where the name is not registered any more and only its deliveries are left."""
    created_at: datetime | None = None
    """Events from before do not reach it by themselves."""
    seen_at: datetime | None = None
    """When a process last said that it has the handler; each does at its start and once a minute while it works."""
    pending: int = 0
    retry: int = 0
    """Waiting for another attempt."""
    running: int = 0
    dead: int = 0
    oldest_at: datetime | None = None
    """When the first of the events occurred that it has not ended."""
    lag: float = 0.0
    """Seconds since the first of its deliveries became due, by the database's clock; 0 where none is due."""


@frozen(kw_only=True)
class OutboxStatus:
    """The outbox as it stands."""

    now: datetime
    """The database's clock."""
    waiting: int = 0
    """Events that were not handed to their handlers yet."""
    oldest_at: datetime | None = None
    """When the first of those occurred."""
    handlers: tuple[HandlerStatus, ...] = ()
    """By name; also those that only deliveries tell of."""


@frozen(kw_only=True)
class Replayed:
    """What a replay did."""

    found: int = 0
    """Deliveries that matched."""
    replayed: int = 0
    """Of those, the ones that are due again by this replay. With ``dry_run`` they would be."""
